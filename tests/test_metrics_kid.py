"""KID against its definition, its population value, its spread over draws, and the distribution of its p-values."""

from itertools import permutations, product

import pytest
import scipy.stats
import torch
from torch import Tensor

from noisekiln.metrics.kernel_sums import InnerKernelSums, KernelSums, centred_kernel, kernel
from noisekiln.metrics.kid import distances_of_groups, kernel_distance, permutation_p_value


def features(n: int, d: int, generator: torch.Generator, scale: float = 1, shift: float = 0) -> Tensor:
    return shift + scale * torch.randn(n, d, generator=generator, dtype=torch.float64)


def random(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def population_value(d: int, shift: float) -> float:
    """``MMD^2`` of N(0, I) and N(shift, I) from the moments of ``u = x.y / d``: ``E (1 + u)^3``."""
    q = d * shift**2
    own = 1 + 3 / d
    other = 1 + 3 * q / d + 3 * (d + 2 * q + q**2) / d**2 + (q**3 + 3 * q**2 + 3 * q * (d + q + 2)) / d**3
    cross = 1 + 3 * (d + q) / d**2
    return own + other - 2 * cross


def test_the_value_is_the_mean_over_pairs_of_different_rows():
    x, y = features(7, 3, random()), features(5, 3, random(1), shift=0.5)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within = [sum(k(a, b) for a, b in permutations(z, 2)) / (len(z) * (len(z) - 1)) for z in (x, y)]
    expected = sum(within) - 2 * sum(k(a, b) for a, b in product(x, y)) / 35
    assert kernel_distance(x, y).value == pytest.approx(expected)
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y))


def test_terms_of_the_variance_are_means_over_different_rows():
    x, y, centre = features(6, 3, random()), features(5, 3, random(1), 2, 0.5), features(1, 3, random(2))
    inner, cross = InnerKernelSums.within(x, centre), KernelSums.between(x, y, centre)
    k, c = centred_kernel(x, x, centre), centred_kernel(x, y, centre)

    def mean(values: list[Tensor]) -> float:
        return float(torch.stack(values).mean())

    triples, fours = list(permutations(range(6), 3)), list(permutations(range(6), 4))
    assert inner.by_row == pytest.approx(mean([k[i, j] * k[i, m] for i, j, m in triples]))
    assert inner.disjoint == pytest.approx(mean([k[i, j] * k[a, b] for i, j, a, b in fours]))
    ways = list(product(permutations(range(6), 2), permutations(range(5), 2)))
    assert cross.by_row == pytest.approx(
        mean([c[i, a] * c[i, b] for i, (a, b) in product(range(6), permutations(range(5), 2))])
    )
    assert cross.by_column == pytest.approx(
        mean([c[i, a] * c[j, a] for (i, j), a in product(permutations(range(6), 2), range(5))])
    )
    assert cross.disjoint == pytest.approx(mean([c[i, a] * c[j, b] for (i, j), (a, b) in ways]))


@pytest.mark.parametrize("shift", [0, 0.3])
def test_it_is_unbiased(shift: float):
    generator, d = random(), 8
    found = [kernel_distance(features(40, d, generator), features(30, d, generator, 1, shift)) for _ in range(200)]
    values = torch.tensor([each.value for each in found])
    assert float(values.mean()) == pytest.approx(population_value(d, shift), abs=3 * float(values.std()) / 200**0.5)
    assert (values < 0).sum() > 50 or shift


@pytest.mark.parametrize(
    ("sizes", "d", "scale", "shift"),
    [((60, 60), 8, 1, 0), ((40, 100), 16, 1, 0), ((60, 60), 8, 1, 0.5), ((100, 40), 8, 1, 0.3), ((50, 70), 8, 1.5, 0)],
)
def test_the_standard_error_is_the_spread_over_draws(sizes: tuple[int, int], d: int, scale: float, shift: float):
    generator, (n, m) = random(1), sizes
    found = [kernel_distance(features(n, d, generator), features(m, d, generator, scale, shift)) for _ in range(200)]
    spread = float(torch.tensor([each.value for each in found]).std())
    stated = torch.tensor([each.standard_error for each in found])
    assert float(stated.mean()) == pytest.approx(spread, rel=0.2)
    assert float(stated.min()) > spread / 3


def test_equal_sets_and_constant_features():
    x = features(50, 4, random())
    assert kernel_distance(x, x).value < 0  # the copy of a row is nearer than any other row
    assert kernel_distance(x, x + 3).value > 5 * kernel_distance(x, x + 3).standard_error
    assert kernel_distance(torch.ones(9, 3), torch.ones(9, 3)) == (0, 0)
    assert permutation_p_value(torch.ones(9, 3), torch.ones(9, 3), permutations=20) == 1


def test_a_large_offset_leaves_the_digits_of_the_difference():
    x, y = features(60, 4, random()), features(60, 4, random(1))
    far = 1000.0

    def linear(first: Tensor, second: Tensor) -> float:  # the unbiased distance for the kernel x.y
        spread = float(first.var(0).sum() / len(first) + second.var(0).sum() / len(second))
        return float((first.mean(0) - second.mean(0)).square().sum()) - spread

    # (1 + (c + x).(c + y) / D)^3 = 3 |c|^4 / D^2 (x.y / D + 2 mean(x) mean(y)) + terms of one of them + smaller ones
    expected = 3 * far**4 * (linear(x, y) / 4 + 2 * linear(x.mean(1, keepdim=True), y.mean(1, keepdim=True)))
    found = kernel_distance(x + far, y + far)
    assert found.value == pytest.approx(expected, rel=0.02)
    assert 0 < found.standard_error < far**4


def test_centring_the_kernel_leaves_the_distance():
    x, y, origin = features(9, 3, random()), features(8, 3, random(1), 2), torch.zeros(1, 3, dtype=torch.float64)
    sums = InnerKernelSums.within(x, origin), InnerKernelSums.within(y, origin), KernelSums.between(x, y, origin)
    assert sums[0].mean + sums[1].mean - 2 * sums[2].mean == pytest.approx(kernel_distance(x, y).value)
    assert kernel(x, y)[2, 3] == pytest.approx((float(x[2] @ y[3]) / 3 + 1) ** 3)


@pytest.mark.parametrize("sizes", [(15, 15), (10, 25)])
def test_p_values_of_equal_distributions_are_uniform(sizes: tuple[int, int]):
    generator, (n, m) = random(3), sizes
    values = torch.tensor(
        [
            permutation_p_value(features(n, 3, generator), features(m, 3, generator), permutations=99, seed=draw)
            for draw in range(300)
        ]
    )
    between_steps = values - torch.rand(300, generator=generator) / 100  # p is one of 0.01, 0.02, ..., 1
    assert scipy.stats.kstest(between_steps.numpy(), "uniform").pvalue > 0.01
    assert float((values <= 0.05).double().mean()) < 0.09


def test_regrouped_rows_have_the_distance_of_their_groups():
    pooled = features(12, 3, random(7))
    groups = torch.stack([torch.randperm(12, generator=random(seed)) < 5 for seed in range(6)], dim=1)
    expected = [kernel_distance(pooled[group], pooled[~group]).value for group in groups.T]
    assert distances_of_groups(pooled, groups).tolist() == pytest.approx(expected)


def test_p_values_do_not_depend_on_the_order_of_rows():
    x, y = features(30, 3, random(5)), features(40, 3, random(6))
    found = permutation_p_value(x, y, permutations=199)
    assert 0.1 < found < 0.9
    assert permutation_p_value(x.flip(0), y[torch.randperm(40, generator=random())], permutations=199) == found


def test_p_values_of_different_distributions_are_small():
    x, y = features(40, 3, random()), features(40, 3, random(1), shift=1)
    assert permutation_p_value(x, y, permutations=199) == 1 / 200
    assert permutation_p_value(x, y, permutations=199, seed=5) == permutation_p_value(x, y, permutations=199, seed=5)
    with pytest.raises(ValueError, match=r"`permutations=0`.*Take 1 or more"):
        permutation_p_value(x, y, permutations=0)
