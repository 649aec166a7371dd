"""Tasks: contracts over all of them, what each does, and that a model of one learns, is saved and generates."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

import noisekiln as nk
from conftest import TINY, Command, content_of, make_images, save_image
from noisekiln.backbones.base import Backbone
from noisekiln.backbones.simple_unet import SimpleUnet
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.registry import find, names
from noisekiln.components.spec import build, describe
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.data import DataError, load, load_pairs
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Estimate
from noisekiln.levels import level, noise_from
from noisekiln.model.diffusion import Diffusion, Sampling
from noisekiln.objectives.denoising import Denoising
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.plan.training_batches import TrainingBatches
from noisekiln.runs.run import Run
from noisekiln.samplers.base import SeededNoise
from noisekiln.tasks.base import Task
from noisekiln.tasks.colorize import Colorize
from noisekiln.tasks.inpaint import Inpaint, known_pixels
from noisekiln.tasks.translate import Translate
from noisekiln.tasks.upscale import Upscale
from toys.halving_codec import Halving

SIZES = [(8, 8), (7, 9), (28, 28), (5, 5)]
CODEC = Pixels((0.5, 0.4, 0.3), (0.3, 0.2, 0.25))
every_task = pytest.mark.parametrize("name", names("tasks"))
pytestmark = pytest.mark.usefixtures("short_previews")


def pictures(count=4, size=(8, 8), channels=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, *size, channels), generator=generator, dtype=torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def tiny(task, *, size=(8, 8), classes=(), channels=3, sampling=None):
    """An untrained model whose output depends on all its inputs."""
    torch.manual_seed(0)
    conditioner = ClassLabel(classes, 5) if classes else None
    image = task.condition_channels(channels) if task else 0
    backbone = SimpleUnet(channels, 5 if classes else 0, width=8, image=image)
    codec = Pixels((0.4,) * channels, (0.3,) * channels)
    return Diffusion(Denoiser(backbone), codec, size, conditioner, sampling or Sampling(steps=3), task).eval()


# --- contracts


@every_task
@pytest.mark.parametrize("size", SIZES)
def test_sources_and_conditions_have_the_promised_shape(name, size):
    task = find(Task, name)()
    pixels = pictures(size=size)
    source = task.observe(pixels, seeded())
    assert source.dtype == torch.uint8
    assert source.shape == (4, *task.source_size(size), task.source_channels(3))
    assert task.output_size(source.shape[1:3], size) == size
    image = task.condition_image(source, CODEC, size, noise_from(seeded()))
    assert image.dtype == torch.float32
    assert image.shape == (4, task.condition_channels(3), *size)
    assert task.training_condition(pixels, CODEC, seeded()).shape == image.shape
    assert task.preview(source, size).shape[:3] == (4, *size)
    assert task.preview(source, size).dtype == torch.uint8


@every_task
@pytest.mark.parametrize("size", SIZES)
def test_behind_a_codec_the_condition_is_as_large_as_x(name, size):
    task, codec, pixels = find(Task, name)(), Halving(), pictures(size=size)
    shape = (4, task.condition_channels(12), *codec.x_size(size))
    source = task.observe(pixels, seeded())
    assert task.condition_image(source, codec, size, noise_from(seeded())).shape == shape
    assert task.training_condition(pixels, codec, seeded()).shape == shape


@every_task
def test_all_randomness_is_the_generators(name):
    task, pixels = find(Task, name)(), pictures()
    torch.manual_seed(1)
    first = task.training_condition(pixels, CODEC, seeded(3))
    torch.manual_seed(2)
    assert torch.equal(task.training_condition(pixels, CODEC, seeded(3)), first)


@every_task
def test_training_and_sampling_see_alike(name):
    """The condition image of a source in sampling also occurs in training."""
    task, pixels = find(Task, name)(), pictures()
    source = task.observe(pixels, seeded(3))
    shown = task.condition_image(source, CODEC, (8, 8), noise_from(seeded()))
    if name == "upscale":
        task = replace(task, noise=0.0, most=0.0)
    torch.testing.assert_close(task.training_condition(pixels, CODEC, seeded(3)), shown)


@every_task
def test_a_task_is_its_spec(name):
    task = find(Task, name)()
    assert build(Task, describe(task)) == build(Task, describe(task, include_defaults=True)) == task


# --- upscale


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_small_images_are_means_of_squares(factor):
    pixels = pictures(size=(16, 24))
    small = Upscale(factor).observe(pixels, seeded())
    means = pixels.view(4, 16 // factor, factor, 24 // factor, factor, 3).double().mean((2, 4))
    assert float((small.double() - means).abs().max()) <= 0.5 + 1e-6
    edge = Upscale(factor).observe(pictures(size=(9, 9)) * 0 + 77, seeded())
    assert bool((edge == 77).all())


def test_a_flat_image_is_shown_flat_and_in_place():
    pixels = torch.full((1, 8, 8, 3), 100, dtype=torch.uint8)
    image = Upscale(2).condition_image(pixels[:, ::2, ::2], CODEC, (8, 8), noise_from(seeded()))
    torch.testing.assert_close(image[:, :3], CODEC.encode(pixels))
    assert not image[:, 3].any()
    pixels[:, 4:] = 200
    shown = Upscale(2).condition_image(pixels[:, ::2, ::2], CODEC, (8, 8), noise_from(seeded()))[:, :3]
    assert (
        float((shown - CODEC.encode(pixels)).abs().mean())
        < float((shown.flip(2) - CODEC.encode(pixels)).abs().mean()) / 3
    )


def test_enlarging_is_bicubic_and_in_place():
    """A slope stays a slope, and an edge overshoots as with cubic curves; up to a rounded grey level."""
    slope = (4 * torch.arange(32.0) + 20).expand(32, 32)[None, :, :, None].expand(-1, -1, -1, 3).round().byte()
    small = Upscale(4).observe(slope, seeded())
    shown = Upscale(4).condition_image(small, CODEC, (32, 32), noise_from(seeded()))[:, :3]
    off = (shown - CODEC.encode(slope))[..., 8:-8, 8:-8].abs() / (
        CODEC.encode(slope)[0, 0, 0, 1:] - CODEC.encode(slope)[0, 0, 0, :-1]
    ).mean()
    assert float(off.max()) < 0.5
    edge = torch.full((1, 32, 32, 3), 50, dtype=torch.uint8)
    edge[:, :, 16:] = 200
    shown = Upscale(4).condition_image(Upscale(4).observe(edge, seeded()), CODEC, (32, 32), noise_from(seeded()))[:, :3]
    assert float(shown.max()) > float(CODEC.encode(edge).max()) + 0.05
    assert float(shown.min()) < float(CODEC.encode(edge).min()) - 0.05
    middle = shown[0, 0, 16]
    torch.testing.assert_close(middle, 2 * CODEC.encode(edge)[0, 0, 0, [0, -1]].mean() - middle.flip(0))


def test_a_noisy_source_keeps_its_variance():
    """With a share a of noise it is sqrt(1 - a^2) x + a z."""
    source = pictures(2, (4, 4))
    clean, zero, full = (
        Upscale(2, share, most=0.8).condition_image(source, CODEC, (8, 8), noise)[:, :3]
        for share, noise in ((0.0, torch.zeros_like), (0.6, torch.zeros_like), (0.6, torch.ones_like))
    )
    torch.testing.assert_close(zero, 0.8 * clean)
    torch.testing.assert_close(full, 0.8 * clean + 0.6)


def test_the_last_channel_is_the_share_of_noise():
    pixels = torch.full((64, 32, 32, 3), 128, dtype=torch.uint8)
    image = Upscale(2, most=0.8).training_condition(pixels, CODEC, seeded())
    share = image[:, 3, 0, 0]
    assert torch.equal(image[:, 3], share[:, None, None].expand(-1, 32, 32))
    assert 0 <= float(share.min()) < 0.05
    assert 0.75 < float(share.max()) <= 0.8
    torch.testing.assert_close(image[:, 0].std((1, 2)), share, rtol=0.1, atol=0.01)
    fixed = Upscale(2, noise=0.3).condition_image(pixels[:, ::2, ::2], CODEC, (32, 32), noise_from(seeded()))
    torch.testing.assert_close(fixed[:, 3], torch.full((64, 32, 32), 0.3))
    assert float(fixed[:, 0].std((1, 2)).mean()) == pytest.approx(0.3, rel=0.05)


def test_sources_may_have_other_sizes_than_in_training():
    assert Upscale(4).output_size((7, 5), (28, 28)) == (28, 20)
    assert Upscale(4).output_size((2, 3), (7, 9)) == (7, 9)
    model = tiny(Upscale(2))
    assert model.sample(1, source=pictures(1, (4, 4))).shape == (1, 8, 8, 3)
    assert model.sample(1, source=pictures(1, (5, 9))).shape == (1, 10, 18, 3)


@pytest.mark.parametrize(("spec", "says"), [
    ("upscale(factor=3)", "Give 2, 4 or 8"),
    ("upscale(noise=0.6)", "from 0 to 0.5, and no others"),
    ("upscale(most=1.0)", "most below 1"),
    ("upscal", "Did you mean 'upscale'?"),
    ("upscale(facto=2)", "Did you mean 'factor'?"),
])  # fmt: skip
def test_impossible_settings_are_refused(spec, says):
    with pytest.raises(ValueError) as caught:
        build(Task, spec)
    assert says in str(caught.value)


# --- inpaint


@pytest.mark.parametrize("size", [(8, 8), (28, 28), (5, 40)])
def test_holes_are_of_all_kinds(size):
    known = known_pixels(400, size, seeded())
    assert known.shape == (400, *size)
    share = known.float().mean((1, 2))
    assert 0.35 < float(share.mean()) < 0.75
    assert float((share < 0.25).float().mean()) > 0.05
    assert float((share > 0.75).float().mean()) > 0.05
    assert len({picture.numpy().tobytes() for picture in known}) > 300
    centre = known[:, size[0] // 2, size[1] // 2]
    corner = known[:, 0, 0]
    assert bool((centre & ~corner).any())
    assert bool((~centre & corner).any())


def test_unknown_pixels_are_not_shown():
    task, pixels = Inpaint(), pictures()
    source = task.observe(pixels, seeded())
    other = torch.where(source[..., -1:] > 127, source, 255 - source)
    other[..., -1] = source[..., -1]
    assert not torch.equal(other, source)
    noise = noise_from(seeded())
    image = task.condition_image(source, CODEC, (8, 8), noise)
    assert torch.equal(task.condition_image(other, CODEC, (8, 8), noise), image)
    known = image[:, -1:].bool()
    assert torch.equal(image[:, :3], torch.where(known, CODEC.encode(pixels), 0.0))


@pytest.mark.parametrize(("value", "known"), [(0, 0), (100, 0), (127, 0), (128, 255), (200, 255)])
def test_a_mask_is_cut_at_its_middle(value, known):
    """Masks that were scaled or saved as JPEG have greys between."""
    task = Inpaint()
    image = torch.full((1, 4, 4, 4), 90, dtype=torch.uint8)
    seen = []
    for opacity in (value, known):
        image[..., -1] = opacity
        seen.append((task.condition_image(image, CODEC, (4, 4), None), task.preview(image.clone(), (4, 4))))
    assert torch.equal(seen[0][0], seen[1][0])
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("size", [(8, 8), (7, 9)])
def test_a_position_of_x_is_known_where_all_its_pixels_are(size):
    codec, source = Halving(), Inpaint().observe(pictures(40, size), seeded())
    image = Inpaint().condition_image(source, codec, size, noise_from(seeded()))
    known = source[..., -1] > 127
    for i, row, column in torch.cartesian_prod(*(torch.arange(side) for side in image[:, 0].shape)).tolist():
        pixels = known[i, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert bool(image[i, -1, row, column]) == bool(pixels.all())
    whole = codec.encode(source[..., :-1])
    assert torch.equal(image[:, :-1], torch.where(image[:, -1:].bool(), whole, 0.0))


def test_an_encoder_sees_the_mean_of_what_is_known_in_holes():
    source = torch.zeros(1, 2, 2, 4, dtype=torch.uint8)
    source[..., :3] = torch.tensor([[10, 20, 30], [30, 20, 10], [99, 99, 99], [99, 99, 99]]).view(1, 2, 2, 3)
    source[:, 0, :, 3] = 255
    seen = []

    class Spy(Halving):
        def encode(self, pixels):
            seen.append(pixels)
            return super().encode(pixels)

    Inpaint().condition_image(source, Spy(), (2, 2), noise_from(seeded()))
    assert seen[0][0].flatten(0, 1).tolist() == [[10, 20, 30], [30, 20, 10], [20, 20, 20], [20, 20, 20]]


def test_what_is_known_stays_exactly_as_it_is():
    model, pixels = tiny(Inpaint()), pictures(6)
    source = model.task.observe(pixels, seeded())
    known = source[..., -1:] > 127
    generated = model.sample(6, source=source)
    assert torch.equal(torch.where(known, generated, 0), torch.where(known, pixels, 0))
    assert bool((generated != pixels).any())


def test_clamping_known_pixels_keeps_estimates_consistent():
    """x_t = alpha x + sigma eps still holds, so any sampler can continue from it."""
    x_t, t, image = torch.randn(2, 3, 8, 8), level(0.6, 0.8), torch.randn(2, 4, 8, 8)
    image[:, -1] = (image[:, -1] > 0).float()
    held = Inpaint().clamp_known(lambda x_t, t, *, to=None: Estimate(0.5 * x_t, (1 - 0.3) / 0.8 * x_t), image)(x_t, t)
    torch.testing.assert_close(held.at(t), x_t)
    known = image[:, -1:].bool()
    torch.testing.assert_close(held.x, torch.where(known, image[:, :3], 0.5 * x_t))


# --- colorize, translate


def test_luma_is_what_pil_calls_grey():
    pixels = pictures(1, (16, 16))
    grey = np.asarray(Image.fromarray(pixels[0].numpy()).convert("L"))
    source = Colorize().observe(pixels, seeded())[0, ..., 0]
    assert int((source.int() - torch.from_numpy(grey.copy()).int()).abs().max()) <= 1


def test_grey_images_cannot_be_coloured():
    with pytest.raises(ValueError, match=r"these images have 1 channel, not red, green and blue\. Train on images"):
        Colorize().source_channels(1)


def test_grey_partners_are_read_in_colour():
    source = Translate().observe(pictures(channels=1), seeded())
    assert source.shape == (4, 8, 8, 3)
    assert torch.equal(source[..., 0], source[..., 2])


# --- models with a task


def test_the_estimate_without_the_condition_sees_the_source_too():
    """Guidance compares conditions: both estimates see the source."""
    model = tiny(Colorize(), classes=("cat", "dog"))
    source = pictures(2, channels=1)
    seen = []
    original = model.denoiser.backbone.forward
    model.denoiser.backbone.forward = lambda x, noise, cond: seen.append(cond) or original(x, noise, cond)
    guided = model.sample(["cat", None], source=source, guidance=3.0)
    image = Colorize().condition_image(source, model.codec, (8, 8), SeededNoise([0, 1]))
    assert {tuple(cond.image.shape) for cond in seen} == {(4, 1, 8, 8)}
    assert all(torch.equal(cond.image, torch.cat([image, image])) for cond in seen)
    assert not torch.equal(guided, model.sample(["cat", None], source=source, guidance=1.0))


@every_task
def test_an_image_is_decided_by_its_seed_and_its_source(name):
    task = find(Task, name)()
    task = replace(task, noise=0.2) if name == "upscale" else task
    model = tiny(task, classes=("cat", "dog"))
    source = task.observe(pictures(5), seeded())
    conditions = ["cat", None, "dog", 1, 0]
    together = model.sample(conditions, source=source, seed=7, batch_size=5)
    in_twos = model.sample(conditions, source=source, seed=7, batch_size=2)
    assert int((together.int() - in_twos.int()).abs().max()) <= 1
    assert not torch.equal(together, model.sample(conditions, source=source, seed=8))
    assert not torch.equal(together, model.sample(conditions, source=source.flip(0), seed=7))


@every_task
def test_a_loaded_model_keeps_its_task(name, tmp_path):
    task = find(Task, name)()
    model = tiny(task)
    model.save(tmp_path)
    loaded = Diffusion.load(tmp_path)
    source = task.observe(pictures(2), seeded())
    assert loaded.task == task
    assert int((loaded.sample(2, source=source).int() - model.sample(2, source=source).int()).abs().max()) <= 1


def test_models_from_before_there_were_tasks_load(tmp_path):
    model = tiny(None)
    model.save(tmp_path)
    description = json.loads((tmp_path / "model.json").read_text())
    assert description.pop("task") is None
    description["backbone"] = description["backbone"].replace(", image=0", "")
    (tmp_path / "model.json").write_text(json.dumps(description))
    assert Diffusion.load(tmp_path).task is None
    assert torch.equal(Diffusion.load(tmp_path).sample(2), model.sample(2))


@pytest.mark.parametrize(("source", "says"), [
    (None, "There is no source to start from: upscale(factor=2) needs one image for each to be generated, (N, h, w,"),
    (pictures(3, (4, 4)), "`source` is (3, 4, 4, 3) uint8 for 2 images"),
    (pictures(2, (4, 4), 1), "`source` is (2, 4, 4, 1) uint8"),
    (pictures(2, (4, 4)).float(), "`source` is (2, 4, 4, 3) float32"),
    (pictures(1, (4, 4))[0], "`source` is (4, 4, 3) uint8"),
])  # fmt: skip
def test_impossible_sources_are_refused(source, says):
    with pytest.raises(ValueError) as caught:
        list(tiny(Upscale(2)).generate([None] * 2, seeds=[0, 1], source=source))
    assert says in str(caught.value)


def test_a_model_without_a_task_takes_nothing():
    with pytest.raises(ValueError, match="given to a model that starts from noise alone"):
        tiny(None).sample(2, source=pictures(2))


# --- training


class Blind(Backbone):
    """A network without a condition image."""

    def __init__(self, channels: int, vector: int = 0) -> None:
        super().__init__()
        self.channels, self.vector = channels, vector
        self.only = nn.Conv2d(channels, channels, 1)

    def forward(self, x, noise, cond):
        return self.only(x)


def settings(task, **but):
    return Settings(task=task, **{"images": 128, "batch_size": 16, "backbone": TINY, "cond": "none", **but})


def test_a_network_that_cannot_see_is_refused(pets: Path, tmp_path: Path):
    blind = settings("inpaint", backbone=f"{__file__}:Blind")
    with pytest.raises(ValueError, match=r"does not read Cond\.image, which `task=inpaint` fills\. Use"):
        Run(blind, load(pets), tmp_path)


def test_colours_are_not_learned_from_grey(tmp_path: Path):
    with pytest.raises(ValueError, match="turns grey into colour, and these images have 1 channel,"):
        Run(settings("colorize"), load(pictures(20, channels=1).numpy()), tmp_path)


def test_guidance_is_off_unless_it_is_set(pets: Path, tmp_path: Path):
    assert Run(settings("inpaint"), load(pets), tmp_path).settings.guidance == 1.0
    assert Run(settings("inpaint", guidance=2.0), load(pets), tmp_path).settings.guidance == 2.0
    assert Run(settings("generate"), load(pets), tmp_path).settings.guidance == 1.5


@pytest.mark.slow
@pytest.mark.parametrize("task", ["upscale(factor=2)", "inpaint"])
def test_interrupted_and_resumed_equals_uninterrupted(task: str, pets: Path, tmp_path: Path):
    data, chosen = load(pets), settings(task, cond="class")
    for _ in Run(chosen, data, tmp_path / "one").steps():
        pass
    run = Run(chosen, data, tmp_path / "other")
    for _ in zip(range(3), run.steps(), strict=False):
        pass
    run.save()
    resumed = Run(chosen, data, tmp_path / "other")
    assert 0 < resumed.opened.images_seen < 128
    for _ in resumed.steps():
        pass
    first, second = (Diffusion.load(tmp_path / name).state_dict() for name in ("one", "other"))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    grids = [sorted((tmp_path / name / "samples").iterdir()) for name in ("one", "other")]
    assert [content_of(file) for file in grids[0]] == [content_of(file) for file in grids[1]]


def test_the_grid_shows_four_sheets(pets: Path, tmp_path: Path):
    run = Run(settings("upscale(factor=2)"), load(pets), tmp_path)
    with Image.open(run.draw_grid()) as grid:
        factor = grid.height / (8 + 2)  # two held-out images: one row
        assert grid.width / factor == 4 * (4 * 9 + 1) + 3 * 4


def blocks(count, seed=0):
    """8x8 pictures, dark above and light below, the edge in one of seven places: detail that a 2x2 image implies."""
    generator = np.random.default_rng(seed)
    pixels = np.empty((count, 8, 8, 1), np.uint8)
    for picture in pixels:
        where = generator.integers(1, 8)
        picture[:where], picture[where:] = 30, 220
    return pixels


@pytest.mark.slow
def test_an_upscaler_learns(tmp_path: Path):
    """Better than the enlarged image by PSNR, and its small image is nearly its source."""
    chosen = Settings(task="upscale", images=4_000, batch_size=32, backbone=TINY, lr=0.01, data="blocks")
    run = Run(chosen, load(blocks(2000)), tmp_path)
    untrained = run.learner.diffusion.eval()
    whole = torch.from_numpy(blocks(32, seed=1))
    source = untrained.task.observe(whole, seeded())

    def measure(model):
        made = model.sample(32, source=source, steps=8)
        again = model.task.observe(made, seeded())
        psnr = 10 * (255**2 / (made.double() - whole).square().mean()).log10()
        return float(psnr), float((again.double() - source).abs().mean())

    before = measure(untrained)
    for _ in run.steps():
        pass
    psnr, apart = measure(Diffusion.load(tmp_path))
    enlarged = F.interpolate(source.permute(0, 3, 1, 2).double(), scale_factor=4.0, mode="bicubic").permute(0, 2, 3, 1)
    bicubic = float(10 * (255**2 / (enlarged.clamp(0, 255) - whole).square().mean()).log10())
    assert psnr > bicubic + 4
    assert before[0] < bicubic
    assert apart < 8
    assert apart < before[1] / 4


# --- pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """24 grey pictures, and the same ones with colours: dark ones blue, light ones red."""
    for i in range(24):
        grey = np.random.default_rng(i).integers(0, 256, (6, 6), dtype=np.uint8)
        save_image(tmp_path / "pairs" / "from" / f"{i}.png", grey)
        colour = np.stack([grey, 0 * grey, 255 - grey], axis=-1)
        save_image(tmp_path / "pairs" / "to" / f"{i}.bmp", colour)
    return tmp_path / "pairs"


def test_partners_are_matched_by_name(pairs: Path):
    save_image(pairs / "from" / "alone.png", np.zeros((6, 6), np.uint8))
    data = load_pairs(pairs)
    assert data.name == "pairs"
    assert data.size == (6, 6)
    assert (len(data.train), len(data.held_out)) == (22, 2)
    for part in (data.train, data.held_out):
        assert part.partners.shape == (len(part), 6, 6, 1)
        for file, partner in zip(part.files, part.partners, strict=True):
            i = int(file.removesuffix(".bmp"))
            assert (partner[..., 0] == np.random.default_rng(i).integers(0, 256, (6, 6), dtype=np.uint8)).all()
    assert "24 images have a partner in from/." in data.notes
    assert "1 more in from/ have none, and are not used." in data.altered


@pytest.mark.parametrize("flip", [False, True])
def test_a_batch_holds_an_image_and_its_own_partner(flip: bool, pairs: Path):
    """Red is the grey of the partner, here; in every epoch, at every place; both are flipped, or none of them."""
    data = load_pairs(pairs)
    model = tiny(Translate(), size=(6, 6))
    for start in (0, 7, 30):
        settings = Settings(seed=3, device="cpu", flip=flip)
        x, ids, _, image, *_ = TrainingBatches(Learner(model, Denoising()), data, settings)(
            start, 16, torch.Generator()
        )
        assert ids is None
        shown = ((image[:, 0] + 1) * 127.5).round().to(torch.uint8)
        assert torch.equal(model.codec.decode(x)[..., 0], shown)


def test_a_changed_partner_is_a_change(pairs: Path):
    before = load_pairs(pairs).fingerprint
    assert load_pairs(pairs).fingerprint == before
    save_image(pairs / "from" / "3.png", np.zeros((6, 6), np.uint8))
    assert load_pairs(pairs).fingerprint != before


def test_missing_partners_and_folders_are_named(pairs: Path, pets: Path):
    (pairs / "from" / "3.png").unlink()
    (pairs / "from" / "7.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"to/3\.bmp, to/7\.bmp have no partner in from/ that can be read\. Give"):
        load_pairs(pairs)
    (pairs / "to" / "3.bmp").unlink()
    (pairs / "to" / "7.bmp").unlink()
    assert [one.file for one in load_pairs(pairs).skipped] == ["7.png"]
    with pytest.raises(DataError, match=r"there is no folder 'from' in it, which pairs of images need\. Give"):
        load_pairs(pets)
    with pytest.raises(DataError, match="a ndarray: pairs of images are read from a folder only"):
        load_pairs(np.zeros((3, 8, 8, 3), np.uint8))


@pytest.mark.parametrize("side", ["from", "to"])
def test_two_files_of_one_name_have_no_clear_partner(pairs: Path, side: str):
    save_image(pairs / side / "3.webp", np.zeros((6, 6), np.uint8))
    with pytest.raises(DataError, match=rf"{side}/ holds several files called '3'"):
        load_pairs(pairs)


def test_translating_is_trained_on_pairs(pairs: Path, tmp_path: Path):
    model = nk.train(pairs, out=tmp_path / "run", task="translate", images=64, batch_size=16, backbone=TINY)
    assert model.task == Translate()
    assert model.sample(2, source=pictures(2, (6, 6)), steps=2).shape == (2, 6, 6, 3)
    with pytest.raises(ValueError, match="translate learns from pairs of images, but pairs holds single images"):
        Run(settings("translate"), replace(load(pairs), name="pairs"), tmp_path / "other")


# --- the command line


def test_train_and_apply(cli: Command, pets: Path, tmp_path: Path):
    run = tmp_path / "run"
    words = ("--images", 32, "--batch-size", 8, "--backbone", TINY)
    result = cli("train", pets, "--task", "upscale(factor=2)", "--out", run, *words)
    assert result.code == 0, result
    assert "upscale(factor=2), 2 classes" in result.out
    save_image(tmp_path / "a.png", np.zeros((4, 4, 3), np.uint8))
    save_image(tmp_path / "b.png", np.full((4, 4), 200, np.uint8))
    result = cli("apply", run, tmp_path / "a.png", tmp_path / "b.png", "-n", 2, "--class", "cat", "--steps", 2)
    assert result.code == 0, result
    index = json.loads((run / "apply" / "samples.json").read_text())
    assert [(entry["file"], entry["class"]) for entry in index] == [(f"0000{i}.png", "Cat") for i in range(4)]
    with Image.open(run / "apply" / "00003.png") as picture:
        assert picture.size == (8, 8)
    result = cli("sample", run)
    assert result.code == 2
    assert result.err == (
        f"noisekiln: {run} was trained to upscale, so it needs images to start from. "
        f"Use `noisekiln apply {run} IMAGE`.\n"
    )
    save_image(tmp_path / "c.png", np.zeros((4, 6, 3), np.uint8))
    result = cli("apply", run, tmp_path / "a.png", tmp_path / "c.png")
    assert (result.code, "The images differ in size (a.png 4x4, c.png 4x6)" in result.err) == (2, True)
    result = cli("apply", run, tmp_path / "none.png")
    assert (result.code, "cannot be opened" in result.err) == (3, True)


def test_apply_needs_a_task(cli: Command, plain_run: Path, plain: Path):
    result = cli("apply", plain_run, plain / "0.png")
    assert result.code == 2
    assert "This model generates from noise alone" in result.err


def test_transparent_parts_are_generated(cli: Command, tmp_path: Path):
    run = tmp_path / "run"
    assert cli("train", make_images(tmp_path / "data"), "--task", "inpaint", "--out", run, "--images", 32,
               "--backbone", TINY).code == 0  # fmt: skip
    pixels = pictures(1, (8, 8), 4)[0].numpy()
    pixels[..., 3] = 255
    pixels[2:5, 2:5, 3] = 0
    save_image(tmp_path / "holes.png", pixels)
    assert cli("apply", run, tmp_path / "holes.png", "--steps", 2).code == 0
    generated = np.asarray(Image.open(run / "apply" / "00000.png"))
    known = pixels[..., 3] > 0
    assert (generated[known] == pixels[known][:, :3]).all()


def test_a_model_with_a_task_is_fine_tuned_on_images_without_captions(cli, captioned, plain, tmp_path):
    """Its grids have no captions, and it trains without conditions."""
    words = ("--images", 64, "--batch-size", 16, "--backbone", "unet(widths=(32,),blocks=(1,),patch=1,condition=32)")
    result = cli("train", captioned, "--task", "upscale(factor=2)", "--out", tmp_path / "up", *words)
    assert result.code == 0, result
    result = cli("train", plain, "--from", tmp_path / "up", "--out", tmp_path / "more", *words[:4])
    assert result.code == 0, result
    assert (tmp_path / "more" / "model" / "model.json").is_file()
    cascade = ("cascade", tmp_path / "up", tmp_path / "up")
    assert cli(*cascade).code == 2
