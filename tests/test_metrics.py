"""Metrics against closed forms and references."""

import pytest
import scipy.linalg
import torch

from noisekiln.metrics.frechet import frechet_distance


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
    with pytest.raises(ValueError, match=r"cannot be compared: give \(N, D\) and \(M, D\)"):
        frechet_distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_features_that_are_no_numbers(bad: float):
    x = features(5, 3, 8)
    y = x.clone()
    y[2, 1] = bad
    for pair in ((x, y), (y, x)):
        with pytest.raises(ValueError, match="not finite"):
            frechet_distance(*pair)
