"""Using a model on a picture: on perfect models, what comes out is known."""

import inspect
import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch

import noisekiln as nk
from noisekiln.api import edit, inpaint, interpolate, outpaint, restore, style, upscale, variations
from noisekiln.backbones.base import Backbone
from noisekiln.codecs.pixels import Pixels
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Estimate
from noisekiln.flow.inversion import invert
from noisekiln.levels import Level, level
from noisekiln.model.cascade import Cascade
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.strength import levels_from
from noisekiln.model.tiling import tiled, windows
from noisekiln.operators.downsample import Downsample
from noisekiln.predictions import EPS, FLOW, Prediction, V
from noisekiln.samplers.base import grid
from noisekiln.samplers.ddim import DDIM
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.rectified import Rectified
from noisekiln.session.session import Session
from noisekiln.uses import interpolation, style_transfer
from noisekiln.uses.fit_image import as_floats, fit_to_model_size
from noisekiln.uses.interpolation import slerp
from noisekiln.uses.request import SampleOptions
from oracles import BOTH, GAUSSIAN, Gaussian, walk


class Smooth(Backbone):
    """The exact denoiser of images with similar neighbouring pixels: covariance ``0.9^distance`` along both axes."""

    def __init__(self, channels=1, vector=0, side=8):
        super().__init__()
        self.channels, self.vector, self.side = channels, vector, side
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        line = 0.9 ** (torch.arange(side)[:, None] - torch.arange(side)).abs().double()
        self.values, self.vectors = torch.linalg.eigh(torch.kron(line, line))

    def forward(self, x, noise, cond):
        angle = noise.double().view(-1, 1, 1) * math.pi / 2
        flat = x.double().flatten(2) @ self.vectors
        alpha, sigma = angle.cos(), angle.sin()
        # v of N(0, S), mode by mode: (alpha sigma - alpha sigma s) / (alpha^2 s + sigma^2) x
        y = alpha * sigma * (1 - self.values) / (alpha**2 * self.values + sigma**2) * flat
        return (y @ self.vectors.T).view_as(x).to(x.dtype) + 0 * self.nothing


def model(channels=1, side=8):
    codec = Pixels((0.5,) * channels, (0.2,) * channels)
    return Diffusion(Denoiser(Smooth(channels, side=side), V), codec, (side, side)).eval()


def picture(height=8, width=8, channels=1):
    row, column = np.mgrid[0:height, 0:width]
    grey = 128 + 60 * np.sin(row / 3) + 40 * np.cos(column / 4)
    return np.repeat(grey[..., None], channels, axis=2).round().clip(0, 255).astype(np.uint8)


def test_the_perfect_model_is_perfect():
    """Its samples have the covariance that it claims."""
    x = torch.stack(list(model().sample(500, steps=40))).double()[..., 0]
    x = (x / 255 - 0.5) / 0.2
    assert float(x.var()) == pytest.approx(0.95, abs=0.15)
    assert float((x[:, :, :-1] * x[:, :, 1:]).mean() / x.square().mean()) == pytest.approx(0.9, abs=0.05)


# --- inpainting


def test_known_pixels_are_exactly_as_they_were():
    missing = torch.zeros(8, 8)
    missing[2:6, 3:5] = 1
    images = inpaint(model(), picture(), missing, count=3, steps=5)
    assert images.shape == (3, 8, 8, 1)
    assert bool((images == torch.from_numpy(picture())).all(-1)[:, missing == 0].all())
    assert bool((images[0] != images[1]).any())


def test_missing_pixels_are_generated_as_the_posterior_has_them():
    """A column between known ones: its mean over many variants is the conditional mean of the Gaussian."""
    missing = torch.zeros(8, 8)
    missing[:, 3:5] = 1
    images = inpaint(model(), picture(), missing, count=200, steps=40, batch_size=200).double()
    line = 0.9 ** (torch.arange(8)[:, None] - torch.arange(8)).abs().double()
    prior = Gaussian(torch.zeros(64, dtype=torch.float64), torch.kron(line, line), (1, 8, 8))
    known = missing.flatten() == 0
    x = (torch.from_numpy(picture()).double() / 255 - 0.5) / 0.2
    posterior = prior.conditioned_on(torch.eye(64, dtype=torch.float64)[known], x.flatten()[known], 0.01)
    got = (images.mean(0) / 255 - 0.5) / 0.2
    off = (got.flatten() - posterior.mean)[~known]
    assert float(off.abs().max()) < 0.12


def test_a_soft_mask_mixes():
    missing = torch.zeros(8, 8)
    missing[:, 4:] = 1
    missing[:, 3] = 0.3
    images = inpaint(model(), picture(), missing, count=1, steps=4)
    source = torch.from_numpy(picture())
    assert bool((images[0, :, :3] == source[:, :3]).all())
    hard = inpaint(model(), picture(), (missing >= 0.5).float(), count=1, steps=4)
    soft = inpaint(model(), picture(), torch.where(missing > 0.5, 0.6, 0.0), count=1, steps=4)
    assert bool((images[0, :, 3] == source[:, 3]).all())  # images as known, so a mixture of the same
    mixed = (0.6 * hard[0, :, 4:].float() + 0.4 * source[:, 4:].float()).round()
    assert float((soft[0, :, 4:].float() - mixed).abs().max()) <= 1


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        (torch.zeros(8, 8), "The mask is empty"),
        (torch.ones(8, 8), "The mask is full"),
        (torch.ones(4, 8), "has 4x8 pixels and the image 8x8"),
        (torch.linspace(0, 1.5, 64).view(8, 8), "mask values lie in 0 to 1"),
        (torch.linspace(-0.5, 1, 64).view(8, 8), "has the value -0.5"),
        (torch.full((8, 8), torch.nan), "has the value nan"),
        (np.eye(8, dtype=np.int64) * 255, r"has the value 255, .* or bytes \(uint8\) of 0 to 255"),
        (np.full((8, 8), 255, dtype=np.uint8), "The mask is full"),
    ],
)
def test_impossible_masks_are_refused(missing, says):
    with pytest.raises(ValueError, match=says):
        inpaint(model(), picture(), missing)


def test_every_known_pixel_of_a_larger_canvas_is_kept():
    images = outpaint(model(), picture(), right=5, top=2, count=1, steps=5)
    assert images.shape == (1, 10, 13, 1)
    assert bool((images[0, 2:, :8] == torch.from_numpy(picture())).all())


@pytest.mark.parametrize("sides", [{}, {"left": -2, "right": 3}])
def test_a_canvas_that_is_not_larger_is_refused(sides):
    with pytest.raises(ValueError, match="Give one side of 1 or more"):
        outpaint(model(), picture(), **sides)


# --- upscaling and restoring


@pytest.mark.parametrize("method", ["moment_matching", "diffpir", "pigdm", "replacement"])
def test_downsampling_an_upscaled_image_returns_the_source(method):
    small = picture(4, 4)
    large = upscale(model(), small, 2, count=2, steps=40, method=method)
    assert large.shape == (2, 8, 8, 1)
    means = Downsample(2)(large.permute(0, 3, 1, 2).double())
    assert float((means[:, 0] - torch.from_numpy(small[..., 0]).double()).abs().mean()) < 4


def test_pictures_larger_than_the_model_are_enlarged_in_tiles():
    large = upscale(model(), picture(8, 6), 2, count=1, steps=8)
    assert large.shape == (1, 16, 12, 1)
    means = Downsample(2)(large.permute(0, 3, 1, 2).double())[0, 0]
    assert float((means - torch.from_numpy(picture(8, 6)[..., 0]).double()).abs().mean()) < 4


def test_converting_a_colourised_image_to_grey_returns_the_source():
    coloured = restore(model(channels=3), picture(), "grayscale", count=2, steps=20)
    assert coloured.shape == (2, 8, 8, 3)
    grey = (coloured.double() * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)).sum(-1)
    assert float((grey - torch.from_numpy(picture()[..., 0]).double()).abs().mean()) < 4


def test_a_colour_source_is_converted_to_grey_as_the_operator_does():
    red = picture(channels=3) * np.array([1, 0, 0], dtype=np.uint8)
    coloured = restore(model(channels=3), red, "grayscale", count=1, steps=30).double()
    weights = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    assert float(((coloured - torch.from_numpy(red).double()) @ weights).abs().mean()) < 4


@pytest.mark.parametrize("stds", [(0.2,), (0.1, 0.2, 0.3)])
def test_noise_is_in_units_of_the_image(stds):
    """The mean of many restored pictures is that of the exact posterior, for every channel's own deviation."""
    perfect = model(len(stds))
    perfect.codec = Pixels((0.5,) * len(stds), stds)
    line = 0.9 ** (torch.arange(8)[:, None] - torch.arange(8)).abs().double()
    prior = Gaussian(torch.zeros(64).double(), torch.kron(line, line), (1, 8, 8))
    got = restore(
        perfect, picture(channels=len(stds)), "noise(level=0.15)", count=150, batch_size=150, steps=30
    ).double()
    for channel, std in enumerate(stds):
        x = (torch.from_numpy(picture()).double().flatten() / 255 - 0.5) / std
        expected = prior.conditioned_on(torch.eye(64).double(), x, 0.15 / std).mean * std + 0.5
        assert float((got[..., channel].mean(0).flatten() / 255 - expected).abs().mean()) < 0.012


def test_several_operators_are_applied_in_order():
    once = restore(model(), picture(), "compose(first=blur(sigma=1), second=noise(level=0.1))", count=1, steps=5)
    assert bool((restore(model(), picture(), ["blur(sigma=1)", "noise(level=0.1)"], count=1, steps=5) == once).all())


def test_a_mask_may_be_an_array_of_booleans_floats_or_bytes():
    missing = np.zeros((8, 8), dtype=np.float32)
    missing[2:4] = 1
    expected = inpaint(model(), picture(), missing, count=1, steps=2)
    as_read_from_a_png = (missing * 255).astype(np.uint8)
    for mask in (missing.astype(bool), missing.astype(np.uint8), as_read_from_a_png, torch.from_numpy(missing).byte()):
        assert torch.equal(inpaint(model(), picture(), mask, count=1, steps=2), expected)
    missing[4] = 0.2
    as_read_from_a_png[4] = 51
    soft = inpaint(model(), picture(), as_read_from_a_png, count=1, steps=2)
    assert torch.equal(soft, inpaint(model(), picture(), missing, count=1, steps=2))


def test_a_restored_picture_is_nearer_than_the_damaged_one():
    clean = model().sample(1, seed=5)[0].numpy()
    noisy = (clean + np.random.default_rng(0).normal(0, 40, clean.shape)).clip(0, 255).astype(np.uint8)
    restored = restore(model(), noisy, f"noise(level={40 / 255})", count=8, steps=30).double().mean(0).numpy()
    assert np.abs(restored - clean).mean() < 0.75 * np.abs(noisy.astype(float) - clean).mean()


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: upscale(model(), picture(4, 4), 1), "enlarges nothing"),
        (lambda: style(model(), picture(), sampler="heun"), "the image is inverted with ddim"),
        (lambda: restore(model(), picture(), "blurr"), "Did you mean 'blur'"),
        (lambda: restore(model(), picture(), None), "`operator=None` is no damage"),
        (lambda: restore(model(), picture(), []), "is no damage"),
        (lambda: inpaint(model(), picture(), "mask.png"), "`missing` is a str, and a mask is numbers"),
        (lambda: inpaint(model(), picture(), None), "`missing` is a NoneType"),
        (lambda: restore(model(), picture(4, 4), "blur"), "smaller than the 8x8"),
        (lambda: restore(model(), picture(), "blur", method="ddnm"), "There is no inverse called 'ddnm'"),
        (lambda: edit(model(), picture(), strength=0), "`strength=0` is not possible"),
        (lambda: edit(model(), picture(), strength=1.5), "`strength=1.5` is not possible"),
        (lambda: edit(model(), picture(), count=0), "`count=0` is out of range. Give 1 or more"),
        (lambda: edit(model(), picture(4, 9)), "smaller than the 8x8"),
        (lambda: edit(model(), picture().astype(float)), "is not an image"),
        (
            lambda: edit(model(), np.zeros((8, 8, 5), np.uint8)),
            "has 5 channels, the model needs 1. Convert it to 1 channel",
        ),
        (lambda: edit(model(), picture(), condition="cat"), "trained without conditions"),
        (lambda: interpolate(model(), [1]), "are no sequence"),
        (lambda: interpolate(model(), [1, picture(9, 9)]), "cannot be a key"),
        (lambda: style(model(), picture(), target_model=model(side=4)), "two models of one size"),
        (lambda: upscale(model(), picture(2, 2), 2), "fewer than the model's 8x8"),
        (lambda: outpaint(model(), picture(), left=10**9), "overlapping tiles"),
        (lambda: edit(torch.nn.Linear(1, 1), picture()), "This is a Linear"),
    ],
)
def test_impossible_arguments_are_errors(call, says):
    with pytest.raises(ValueError) as caught:
        call()
    assert says in str(caught.value)


# --- edits


@dataclass(frozen=True)
class Nearly(Schedule):
    """A schedule that ends beside pure noise: by a rounding error, or so early that little of the image is left."""

    end: float
    power: int = 1

    def __call__(self, time: torch.Tensor) -> Level:
        alpha = (1 - time.double()) ** self.power + self.end
        return Level(alpha, (1 - alpha.square()).clamp(min=0).sqrt())


def test_an_eps_model_begins_where_its_output_determines_the_image():
    def begin(end: float, power: int = 1, prediction: Prediction = EPS) -> float:
        schedule = Nearly(end, power)
        first = float(levels_from(1.0, schedule, 4, prediction)[0].alpha)
        at = {t: float(schedule(torch.tensor(t, dtype=torch.float64)).alpha) for t in (1.0, 0.999, 0.99, 0.9)}
        return min(at, key=lambda t: abs(at[t] - first))

    assert [begin(end) for end in (0.0, 1e-16, -1e-16, 1e-8, 1e-5)] == [0.999, 0.999, 0.999, 0.999, 1.0]
    assert begin(1e-16, power=3) == 0.99  # alpha is 1e-9 at .999
    assert begin(1e-16, prediction=V) == begin(1e-16, prediction=FLOW) == 1.0


def test_the_strength_of_an_edit_is_how_far_it_goes():
    source = torch.from_numpy(picture()).double()
    away = [
        float((edit(model(), picture(), strength=s, count=8).double() - source).abs().mean()) for s in (0.1, 0.5, 1)
    ]
    assert away[0] < 0.5 * away[1] < 0.5 * away[2]
    assert away[0] < 8


def test_variations_are_edits_without_a_condition():
    same = edit(model(), picture(), strength=0.4, count=3, steps=8)
    assert bool((variations(model(), picture(), strength=0.4, count=3, steps=8) == same).all())


def test_variants_depend_on_their_seed_and_not_on_their_batch():
    whole = edit(model(), picture(), count=5, seed=3, steps=6)
    parts = edit(model(), picture(), count=5, seed=3, steps=6, batch_size=2)
    one = edit(model(), picture(), count=1, seed=5, steps=6)
    assert int((whole.int() - parts.int()).abs().max()) <= 1
    assert int((whole[2:3].int() - one.int()).abs().max()) <= 1


# --- inversion


def last(steps):
    *_, x = steps
    return x


@pytest.mark.parametrize(("data", "off"), [(GAUSSIAN, 1e-6), (BOTH["mixture"], 5e-3)], ids=["gaussian", "mixture"])
def test_ddim_from_inverted_noise_returns_the_image(data, off):
    """Between the parts of a mixture the denoiser is steep, and the fixed point is reached slowly."""
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 1, 2, 2)
    levels = grid(Karras(), 50)
    back = walk(data, DDIM(), levels, last(invert(data, levels, x, iterations=12)))
    torch.testing.assert_close(back, x, atol=off, rtol=0)


def test_more_iterations_invert_better():
    data, levels = GAUSSIAN, grid(Karras(), 20)
    x = torch.linspace(-1, 1, 12, dtype=torch.float64).view(3, 1, 2, 2)
    off = [float((walk(data, DDIM(), levels, last(invert(data, levels, x, n))) - x).abs().mean()) for n in (1, 2, 6)]
    assert off[2] < 0.5 * off[1] < 0.5 * off[0]
    assert torch.equal(last(invert(data, levels, x)), last(invert(data, levels, x, 3)))  # three of them by default


def test_a_picture_under_its_own_condition_comes_back():
    back = style(model(), picture(), strength=1.0, steps=50)
    error = (back.double() - torch.from_numpy(picture()).double()).square().mean()
    assert float(10 * torch.log10(255**2 / error)) > 40


@pytest.mark.parametrize("strength", [0.5, 0.9, 1.0])
def test_ddim_reverses_the_inversion(strength):
    back = style(model(), picture(), strength=strength, steps=150)
    assert float((back.double() - torch.from_numpy(picture()).double()).abs().mean()) < 0.7


def test_frames_do_not_depend_on_their_batch():
    many, few = (interpolate(model(), [1, 2], frames=4, steps=5, sampler="ddim(eta=1)", batch_size=b) for b in (16, 2))
    assert int((many.int() - few.int()).abs().max()) <= 1


@pytest.mark.parametrize(("size", "factor"), [((9, 9), 3), ((2, 2), 16), ((3, 5), 4)])
def test_any_factor_enlarges_whatever_becomes_large_enough(size, factor):
    large = upscale(model(), picture(*size), factor, count=1, steps=2)
    assert large.shape == (1, factor * size[0], factor * size[1], 1)


def test_a_box_may_lie_anywhere_in_a_larger_picture():
    assert restore(model(), picture(16, 16), "mask(box=(10, 10, 14, 14))", count=1, steps=2).shape == (1, 16, 16, 1)


def test_interpolation_begins_and_ends_at_its_keys():
    perfect = model()
    strip = interpolate(perfect, [3, 9], frames=4, steps=20)
    ends = perfect.sample(2, seeds=[3, 9], steps=20, sampler="ddim")
    assert strip.shape == (5, 8, 8, 1)
    assert int((strip[[0, -1]].int() - ends.int()).abs().max()) <= 1
    steps = (strip[1:].double() - strip[:-1].double()).abs().mean((1, 2, 3))
    assert float(steps.max()) < 2.5 * float(steps.min())


def test_pictures_are_keys_too():
    strip = interpolate(model(), [picture(), 9], frames=2, steps=50)
    assert float((strip[0].double() - torch.from_numpy(picture()).double()).abs().mean()) < 3


def test_great_circles_keep_the_length_of_noise():
    a, b = torch.randn(2, 1, 1, 50, 50, generator=torch.Generator().manual_seed(0))
    middle = slerp(a, b, 0.5)
    assert float(middle.std()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(slerp(a, b, 0), a)
    torch.testing.assert_close(slerp(a, b, 1), b)
    torch.testing.assert_close(slerp(a, a, 0.3), a)


@pytest.mark.parametrize(
    "use",
    [
        lambda: style_transfer.style(model(), picture(), strength=0.5, steps=6),
        lambda: interpolation.interpolate(model(), [picture(), 3, picture()], frames=2, steps=6, batch_size=2),
    ],
)
def test_progress_counts_the_steps_of_the_inversion_too(use):
    progress = list(use())
    assert [each.step for each in progress] == list(range(1, progress[-1].steps + 1))
    assert len({(each.steps, each.count) for each in progress}) == 1
    assert not progress[0].finished
    assert progress[0].images().shape == (1, 8, 8, 1)


def test_all_calls_sample_as_many_images_at_once_by_default():
    calls = (nk.generate, Diffusion.sample, Cascade.sample, Session.sample)
    assert {inspect.signature(call).parameters["batch_size"].default for call in calls} == {SampleOptions().batch_size}


def test_options_are_checked_before_the_inversion():
    for use in (style_transfer.style, interpolation.interpolate):
        with pytest.raises(ValueError, match="A guidance scale of -1"):
            use(model(), picture() if use is style_transfer.style else [picture(), 3], guidance=-1)


# --- tiles


@pytest.mark.parametrize(("strength", "steps", "count"), [(0.5, 10, 5), (0.51, 10, 6), (1.0, 7, 7), (0.01, 10, 1)])
def test_a_strength_is_a_share_of_the_angle_and_of_the_steps(strength, steps, count):
    levels = levels_from(strength, Cosine(0.0), steps, V)
    assert len(levels) == count + 1
    assert float(levels[0].angle) == pytest.approx(strength * math.pi / 2, abs=1e-6)
    assert float(levels[-1].sigma) == 0


def test_an_eps_model_does_not_begin_where_it_says_nothing_of_the_image():
    begins = [float(levels_from(1.0, Rectified(), 4, prediction)[0].sigma) for prediction in (V, EPS)]
    assert begins == pytest.approx([1.0, 0.999])


def test_the_next_tile_overlaps_by_at_least_the_share_that_is_requested():
    """Of tiles of 8, each starts at most 6 after the one before it where a quarter overlaps."""
    assert [rows.start for rows, _ in windows((20, 8), (8, 8), 0.25)] == [0, 6, 12]
    assert [rows.start for rows, _ in windows((14, 8), (8, 8), 0.25)] == [0, 6]
    assert len(windows((14, 8), (8, 8), 0.75)) == 4


def test_tiles_count_less_towards_their_borders():
    """Two tiles of 3 that share two rows: weights 1/2, 1, 1/2 of each."""
    zero, one = (lambda x_t, t, *, to=None, value=value: Estimate.of_x(x_t, torch.full_like(x_t, value), t)
                 for value in (0.0, 1.0))  # fmt: skip
    places = [(slice(0, 3), slice(0, 1)), (slice(1, 4), slice(0, 1))]
    denoise = tiled(lambda place: zero if place is places[0] else one, places)
    x = denoise(torch.zeros(1, 1, 4, 1), level(0.6, 0.8)).x
    torch.testing.assert_close(x.flatten(), torch.tensor([0.0, 1 / 3, 2 / 3, 1.0]))


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (20, 33), (16, 12)])
def test_windows_cover_and_overlap(size):
    covered = torch.zeros(size)
    for rows, columns in windows(size, (8, 8)):
        assert covered[rows, columns].shape == (8, 8)
        covered[rows, columns] += 1
    assert int(covered.min()) >= 1
    assert size == (8, 8) or int(covered.max()) >= 2


def test_tiles_of_a_model_of_single_pixels_are_that_model():
    """If pixels are independent, tiling must change nothing."""
    data = next(iter(BOTH.values()))
    t, x_t = level(0.8, 0.6), torch.randn(2, 1, 13, 20, dtype=torch.float64)
    got = tiled(lambda _: data, windows((13, 20), (8, 8)))(x_t, t)
    torch.testing.assert_close(got.x, data(x_t, t).x)
    torch.testing.assert_close(t.alpha * got.x + t.sigma * got.eps, x_t)


def test_no_seam_is_seen():
    """Steps between neighbouring pixels are not larger where tiles meet than elsewhere."""
    images = torch.cat([p.images() for *_, p in [list(model().generate([None] * 20, seeds=range(20), size=(8, 20)))]])
    steps = (images[:, :, 1:].double() - images[:, :, :-1].double()).abs().mean((0, 1, 3))
    assert float(steps.max()) < 1.7 * float(steps.median())


# --- pictures


def test_grey_and_colour_turn_into_each_other():
    assert as_floats(model(3), picture()).shape == (1, 3, 8, 8)
    assert as_floats(model(1), picture(channels=3)).shape == (1, 1, 8, 8)
    assert as_floats(model(1), picture()[..., 0]).shape == (1, 1, 8, 8)


@pytest.mark.parametrize(
    ("shape", "exactly", "size", "says"),
    [
        ((8, 8), False, (8, 8), ""),
        ((8, 12), False, (8, 12), "tiles"),
        ((4, 6), False, (8, 12), "fewer"),
        ((16, 32), True, (8, 8), "scaled to the model's size"),
        ((4, 6), True, (8, 8), "scaled to the model's size"),
    ],
)
def test_images_are_resized_to_fit(shape, exactly, size, says):
    fitted, note = fit_to_model_size(picture(*shape), (8, 8), exactly=exactly)
    assert fitted.shape[:2] == size
    assert says in note
    assert bool(note) == (shape != (8, 8))


def test_a_photograph_is_not_generated_in_thousands_of_tiles():
    with pytest.raises(ValueError, match=r"2,244 overlapping tiles of the model's 8x8.*`resize`"):
        fit_to_model_size(np.zeros((140, 266, 1), dtype=np.uint8), (8, 8))
    assert fit_to_model_size(np.zeros((140, 266, 1), dtype=np.uint8), (8, 8), exactly=True)[0].shape == (8, 8, 1)


def test_a_use_has_its_own_settings_for_what_was_left_open():
    assert SampleOptions().arguments(steps=7)["steps"] == 7
    assert SampleOptions(steps=3).arguments(steps=7)["steps"] == 3
