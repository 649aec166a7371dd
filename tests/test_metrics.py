"""Metrics against closed forms and references."""

import pytest
import scipy.linalg
import torch

from noisekiln.metrics.frechet import frechet_distance
from noisekiln.metrics.similarity import psnr, ssim


def features(n: int, d: int, seed: int) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_set_has_no_distance_from_itself():
    x = features(300, 12, 0)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-8)
    assert frechet_distance(x, x.flip(0)) == pytest.approx(0, abs=1e-8)


def test_shifted_and_scaled_gaussians():
    x = features(500, 6, 1)
    shift = torch.linspace(-2, 3, 6, dtype=torch.float64)
    assert frechet_distance(x, x + shift) == pytest.approx(float(shift.square().sum()), rel=1e-10)
    # N(m, S) and N(k m, k^2 S): |(k - 1) m|^2 + (k - 1)^2 tr S
    expected = float((2 * x.mean(0)).square().sum() + 4 * x.T.cov().trace())
    assert frechet_distance(x, 3 * x) == pytest.approx(expected, rel=1e-10)


def test_one_feature():
    x, y = features(40, 1, 2), 2 + 0.5 * features(60, 1, 3)
    expected = float((x.mean() - y.mean()) ** 2 + (x.std() - y.std()) ** 2)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-10)


def test_agrees_with_a_matrix_square_root():
    for seed in range(3):
        mix = features(8, 8, 10 + seed)
        x, y = features(200, 8, 20 + seed), 0.3 + features(150, 8, 30 + seed) @ mix
        s, t = x.T.cov().numpy(), y.T.cov().numpy()
        root = scipy.linalg.sqrtm(s @ t).real
        expected = float((x.mean(0) - y.mean(0)).square().sum()) + (s + t - 2 * root).trace()
        assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-8)
        assert frechet_distance(y, x) == pytest.approx(expected, rel=1e-8)


def test_fewer_points_than_features():
    x, y = features(5, 20, 4), features(7, 20, 5)
    distance = frechet_distance(x, y)
    assert distance > 0
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)


def test_bias_of_finite_samples():
    d, n = 16, 2000
    found = [frechet_distance(features(n, d, 100 + i), features(n, d, 200 + i)) for i in range(8)]
    assert sum(found) / len(found) == pytest.approx(2 * d / n + d * (d + 1) / (2 * n), rel=0.1)


def test_other_precisions():
    x, y = features(100, 4, 6), features(100, 4, 7)
    assert frechet_distance(x.float(), y.float()) == pytest.approx(frechet_distance(x, y), rel=1e-4)


@pytest.mark.parametrize(
    "shapes", [((5, 3), (5, 4)), ((1, 3), (5, 3)), ((5, 3), (1, 3)), ((5,), (5,)), ((2, 3, 4), (2, 3, 4))]
)
def test_shapes_that_do_not_fit(shapes: tuple[tuple[int, ...], tuple[int, ...]]):
    with pytest.raises(ValueError, match=r"cannot be compared. Give \(N, D\) and \(M, D\)"):
        frechet_distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers(bad: float):
    x = features(5, 3, 8)
    y = x.clone()
    y[2, 1] = bad
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="not finite"):
            frechet_distance(*pair)


def pictures(seed=0, side=24, channels=3):
    return torch.randint(0, 256, (4, side, side, channels), generator=torch.Generator().manual_seed(seed)).byte()


def test_psnr_follows_its_definition():
    black = torch.zeros(2, 5, 5, 1, dtype=torch.uint8)
    grey = torch.full_like(black, 51)  # a fifth of white: 10 log10 25
    assert psnr(grey, black).tolist() == pytest.approx([13.979, 13.979], abs=1e-3)
    assert psnr(black, black).tolist() == [100, 100]


def test_ssim_of_a_picture_with_itself_is_1_and_of_noise_about_0():
    a = pictures()
    torch.testing.assert_close(ssim(a, a), torch.ones(4, dtype=torch.float64))
    assert float(ssim(a, pictures(1)).abs().max()) < 0.1


def test_ssim_of_flat_pictures_is_its_luminance_term():
    a, b = (torch.full((1, 16, 16, 1), value).byte() for value in (100, 150))
    x, y, c = 100 / 255, 150 / 255, 0.01**2
    assert float(ssim(a, b)) == pytest.approx((2 * x * y + c) / (x**2 + y**2 + c))


def test_ssim_by_hand_for_a_picture_no_larger_than_the_window():
    a, b = pictures(side=7, channels=1)[:1], pictures(1, side=7, channels=1)[:1]
    line = torch.exp(-0.5 * ((torch.arange(7.0).double() - 3) / 1.5) ** 2)
    w = line[:, None] * line
    w = w / w.sum()
    x, y = a[0, ..., 0].double() / 255, b[0, ..., 0].double() / 255
    mx, my = (w * x).sum(), (w * y).sum()
    vx, vy, cov = (w * x * x).sum() - mx**2, (w * y * y).sum() - my**2, (w * x * y).sum() - mx * my
    c1, c2 = 0.01**2, 0.03**2
    expected = (2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    assert float(ssim(a, b)) == pytest.approx(float(expected))
