"""MIND against closed forms."""

import pytest
import torch
from torch import Tensor

from noisekiln.metrics.mind import sliced_distance


def features(n: int, d: int, seed: int) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "d"), [(50, 3), (20, 200), (30, 700), (2, 1)])
def test_equal_sets_have_no_distance_in_any_order(n: int, d: int):
    x = features(n, d, 0)
    assert sliced_distance(x, x) == 0
    assert sliced_distance(x, x.flip(0)) < 1e-25
    assert sliced_distance(x, torch.cat([x, x.flip(0), x])) < 1e-25


@pytest.mark.parametrize(("n", "d"), [(40, 1), (50, 6), (20, 200), (10, 512)])
def test_a_shift_gives_its_mean_square(n: int, d: int):
    x, shift = features(n, d, 1), torch.linspace(-2, 3, d, dtype=torch.float64)
    expected = float(shift.square().mean())
    assert sliced_distance(x, x + shift) == pytest.approx(expected, rel=1e-9)
    assert sliced_distance(x, torch.cat([x, x.flip(0)]) + shift) == pytest.approx(expected, rel=1e-9)


def test_more_features_than_directions():
    x, shift = features(10, 1280, 1), features(1, 1280, 2)
    for directions in (256, 512):
        found = sliced_distance(x, x + shift, directions=directions)
        assert found == pytest.approx(float(shift.square().mean()), rel=0.2)


def test_a_scale_gives_the_mean_square_of_the_projections():
    x = features(
        60, 8, 3
    )  # W2^2 of u.x and k u.x = (k - 1)^2 mean (u.x)^2, over an orthonormal basis (k - 1)^2 |x|^2 / d
    assert sliced_distance(x, 3 * x) == pytest.approx(4 * float(x.square().mean()), rel=1e-9)


def test_samples_of_shifted_gaussians():
    x, y = features(4000, 8, 4), features(3000, 8, 5) + 0.5
    assert sliced_distance(x, y) == pytest.approx(0.25, rel=0.1)
    assert sliced_distance(x, y - 0.5) < 0.01


def test_unequal_numbers_are_compared_by_quantiles():
    one, two = features(3, 1, 6), features(4, 1, 7)
    sorted_one, sorted_two = one[:, 0].sort().values, two[:, 0].sort().values
    expected = float((sorted_one.repeat_interleave(4) - sorted_two.repeat_interleave(3)).square().mean())
    assert sliced_distance(one, two) == pytest.approx(expected)
    assert sliced_distance(two, one) == pytest.approx(expected)


def test_directions_are_fixed_by_the_seed():
    x, y = features(50, 5, 8), 2 * features(60, 5, 9)
    assert sliced_distance(x, y) == sliced_distance(x, y, seed=0) != sliced_distance(x, y, seed=1)
    assert sliced_distance(x, y, seed=1) == pytest.approx(sliced_distance(x, y), rel=0.02)
    with pytest.raises(ValueError, match=r"`directions=0`.*Take 1 or more"):
        sliced_distance(x, y, directions=0)
