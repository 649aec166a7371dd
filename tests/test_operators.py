"""Operators: adjoint identities and what each is known for."""

import io
import math

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from noisekiln.components.registry import names
from noisekiln.components.spec import build, describe
from noisekiln.operators.base import Observation, Operator, convolve
from noisekiln.operators.bicubic import Bicubic
from noisekiln.operators.blur import Blur
from noisekiln.operators.downsample import Downsample
from noisekiln.operators.grayscale import Grayscale
from noisekiln.operators.jpeg import Jpeg
from noisekiln.operators.mask import Mask
from noisekiln.operators.motion_blur import MotionBlur
from noisekiln.operators.noise import Noise

MORE = [
    "mask(box=(1, 2, 5, 6))",
    "blur(sigma=3)",
    "motion_blur(length=4, angle=30)",
    "downsample(factor=2)",
    "compose(first=blur(sigma=0.7), second=downsample(factor=2))",
]
SPECS = [*names("operators"), *MORE]
LINEAR = [spec for spec in SPECS if spec != "jpeg"]


def images(batch=2, channels=3, height=8, width=12, seed=0):
    return torch.rand(batch, channels, height, width, generator=torch.Generator().manual_seed(seed)).double()


def test_every_problem_has_an_operator_here():
    assert {"mask", "downsample", "bicubic", "blur", "motion_blur", "grayscale", "noise", "jpeg", "compose"} <= set(
        names("operators")
    )


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("spec", LINEAR)
def test_the_adjoint_is_the_adjoint(spec, channels):
    """<A x, y> = <x, A^T y>, which holds for linear A alone."""
    a, x = build(Operator, spec), images(channels=channels)
    y = torch.randn_like(a(x))
    assert float((a(x) * y).sum()) == pytest.approx(float((x * a.adjoint(y, torch.zeros_like(x))).sum()), rel=1e-10)


@pytest.mark.parametrize("spec", LINEAR)
def test_linear_ones_are_linear(spec):
    a, x, z = build(Operator, spec), images(), images(seed=1)
    torch.testing.assert_close(a(2 * x - 3 * z), 2 * a(x) - 3 * a(z))


@pytest.mark.parametrize("spec", SPECS)
def test_derivative_and_its_transpose_belong_together(spec):
    """Also for non-linear operators."""
    x = images()
    _, jvp, vjp = Observation(torch.zeros(()), build(Operator, spec)).linearize(x)
    v = torch.randn_like(x)
    u = torch.randn_like(jvp(v))
    assert float((jvp(v) * u).sum()) == pytest.approx(float((v * vjp(u)).sum()), rel=1e-10)


def test_the_residual_is_what_an_image_lacks():
    x, y = images(), images(height=4, width=6, seed=1)
    residual, _, _ = Observation(y, Downsample(2)).linearize(x)
    torch.testing.assert_close(residual, y - Downsample(2)(x))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if not spec.startswith("mask")])
def test_a_flat_image_is_seen_flat(spec):
    """No operator changes the brightness, not even at the border."""
    seen = build(Operator, spec)(torch.full((1, 3, 8, 12), 0.6, dtype=torch.float64))
    torch.testing.assert_close(seen, torch.full_like(seen, 0.6), atol=0.02 if spec == "jpeg" else 1e-9, rtol=0)


@pytest.mark.parametrize("spec", SPECS)
def test_every_image_of_a_batch_is_on_its_own(spec):
    a, x = build(Operator, spec), images()
    torch.testing.assert_close(a(x)[1:], a(x[1:]))


@pytest.mark.parametrize("spec", [spec for spec in SPECS if spec != "mask"])
def test_a_spec_survives(spec):
    assert build(Operator, describe(build(Operator, spec), include_defaults=True)) == build(Operator, spec)


def test_a_mask_hides_its_box_and_nothing_else():
    seen = Mask(box=(1, 2, 5, 6))(torch.ones(1, 1, 8, 12))[0, 0]
    assert float(seen[2:6, 1:5].sum()) == 0
    assert float(seen.sum()) == 8 * 12 - 16


def test_a_mask_by_map_is_that_map():
    known = (torch.rand(8, 12) > 0.5).float()
    torch.testing.assert_close(Mask(known)(torch.ones(2, 3, 8, 12)), known.expand(2, 3, 8, 12))


def test_downsampling_averages_squares():
    x = torch.arange(16.0).view(1, 1, 4, 4)
    torch.testing.assert_close(Downsample(2)(x), torch.tensor([[[[2.5, 4.5], [10.5, 12.5]]]]))


def test_borders_are_mirrored_about_their_pixels():
    x, kernel = images(1, 2, 5, 6), torch.rand(3, 7, dtype=torch.float64)
    padded = F.pad(x, (3, 3, 1, 1), mode="reflect").flatten(0, 1)[:, None]
    torch.testing.assert_close(convolve(x, kernel), F.conv2d(padded, kernel[None, None]).view(x.shape))


def test_bicubic_is_pillows():
    pixels = np.random.default_rng(0).random((16, 24)).astype(np.float32)
    pillow = np.asarray(Image.fromarray(pixels).resize((6, 4), Image.Resampling.BICUBIC))
    ours = Bicubic(4)(torch.from_numpy(pixels)[None, None])[0, 0]
    np.testing.assert_allclose(ours, pillow, atol=1e-5)


def test_blur_spreads_a_point_as_a_gaussian():
    point = torch.zeros(1, 1, 41, 41, dtype=torch.float64)
    point[..., 20, 20] = 1
    seen = Blur(2)(point)[0, 0]
    line = torch.arange(41.0) - 20
    assert float((seen.sum(0) * line**2).sum()) == pytest.approx(4, rel=0.05)
    assert float(seen.sum()) == pytest.approx(1)


@pytest.mark.parametrize(("angle", "axis"), [(0, 0), (90, 1)])
def test_motion_blur_spreads_a_point_along_its_line(angle, axis):
    point = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    point[..., 10, 10] = 1
    seen = MotionBlur(5, angle)(point)[0, 0]
    assert int((seen.sum(axis) > 1e-9).sum()) == 5
    assert int((seen.sum(1 - axis) > 1e-9).sum()) == 1


def test_motion_blur_is_as_long_as_it_says():
    """A line of 4 pixels covers three of them whole and two by half; a slanted one ends at its ends."""
    point = torch.zeros(1, 1, 9, 9, dtype=torch.float64)
    point[..., 4, 4] = 1
    across = MotionBlur(4, 0)(point)[0, 0, 4]
    torch.testing.assert_close(across[2:7], torch.tensor([0.125, 0.25, 0.25, 0.25, 0.125], dtype=torch.float64))
    slanted = MotionBlur(3, 45)(point)[0, 0]
    assert float(slanted[3, 5]) > 0.1
    assert float(slanted[2, 6]) == float(slanted[6, 2]) == 0


@pytest.mark.parametrize(("angle", "there"), [(45, True), (225, True), (135, False), (-45, False)])
def test_motion_blur_turns_against_the_clock(angle, there):
    """45 degrees lead to the upper right: rows count down, columns to the right."""
    point = torch.zeros(1, 1, 21, 21, dtype=torch.float64)
    point[..., 10, 10] = 1
    seen = MotionBlur(7, angle)(point)[0, 0]
    rising, falling = (float(seen[10 - i, 12] + seen[10 + i, 8]) for i in (2, -2))
    assert (rising > 0.1, falling > 0.1) == (there, not there)
    assert min(rising, falling) < 1e-9


def test_grey_is_pillows_grey():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 12, 3), dtype=np.uint8)
    ours = Grayscale()(torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255.0)[0, 0] * 255
    np.testing.assert_allclose(ours, np.asarray(Image.fromarray(pixels).convert("L")), atol=1.01)


@pytest.mark.parametrize("quality", [5, 20, 60, 95])
def test_jpeg_loses_what_jpeg_loses(quality):
    """A smooth grey picture, through Pillow's encoder and through ours."""
    row, column = np.mgrid[0:32, 0:40]
    pixels = (127 + 60 * np.sin(row / 5) + 60 * np.cos(column / 7)).clip(0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    theirs = np.asarray(Image.open(file)).astype(float)
    ours = Jpeg(quality)(torch.from_numpy(pixels)[None, None].double() / 255)[0, 0].numpy() * 255
    assert np.abs(ours - theirs).max() <= 2.5
    assert np.abs(theirs - pixels).max() > 2 or quality > 20


def test_noise_levels_add_up():
    assert build(Operator, "compose(first=noise(level=0.3), second=noise(level=0.4))").std == pytest.approx(0.5)
    assert build(Operator, "compose(first=blur, second=noise(level=0.2))").std == 0.2
    assert Noise(0.25).std == 0.25
    assert Blur(2).std == 0


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("blur(sigma=0)", "above 0"),
        ("blur(sigma=inf)", "above 0"),
        ("motion_blur(length=0)", "Give 1 (no blur) to 1000"),
        ("noise(level=-1)", "0 or more"),
        ("jpeg(quality=0)", "1 to 100"),
        ("downsample(factor=5)", "do not divide"),
        ("downsample(factor=3)", "do not divide"),  # one side does
        ("downsample(factor=8)", "do not divide"),  # the other does
        ("bicubic(factor=0)", "do not divide"),
        ("mask(box=(0, 0, 20, 4))", "is not inside an image of 8x12 pixels"),
        ("mask(box=(3, 3))", "is not inside an image"),
        ("blurr", "Did you mean 'blur'?"),
    ],
)
def test_impossible_arguments_are_errors(spec, says):
    with pytest.raises(ValueError) as caught:
        build(Operator, spec)(images())
    assert says in str(caught.value)


def test_a_mask_of_another_size_is_refused():
    with pytest.raises(ValueError, match="3x4 pixels cannot cover images of 8x12"):
        Mask(torch.ones(3, 4))(images())


def test_wide_blurs_of_small_images_are_possible():
    assert math.isfinite(float(Blur(9)(images(height=1, width=2)).sum()))
