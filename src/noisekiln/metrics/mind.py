"""MIND: the sliced Wasserstein distance between two sets of features."""

from functools import lru_cache

import torch
from torch import Tensor

from noisekiln.metrics.feature_rows import check_features, row_blocks

AT_ONCE = 64  # directions that are computed with at once


def sliced_distance(first: Tensor, second: Tensor, *, directions: int = 512, seed: int = 0) -> float:
    """``mean over directions u of W2(u.first, u.second)^2`` (Berthet et al. 2026, "Monge Inception Distance").

    ``W2^2`` of two sets of numbers is the mean squared difference of their quantiles. It fits no Gaussian and no
    covariance, so it may be computed with fewer rows than features. 0 for equal sets; ``|m|^2 / D`` for a set and its
    copy moved by ``m``. Two samples of one distribution have a distance of the order ``log log N / N``.

    Args:
        first: Features, (N, D).
        second: Features, (M, D).
        directions: How many random unit vectors, orthogonal to each other in groups of up to D; the last group is
            completed, so for ``D <= directions`` a shift gives exactly ``|m|^2 / D``.
        seed: Of the directions: only distances in the same directions may be compared.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or there are no directions.
    """
    check_features(first, second)
    if directions < 1:
        raise ValueError(
            f"`directions={directions}` gives nothing to average over. Take 1 or more; 512 is the default."
        )
    weights, one, two = _quantile_pairs(len(first), len(second))
    basis = _unit_directions(first.shape[1], directions, seed)
    total = 0.0
    for part in basis.split(AT_ONCE, dim=1):
        difference = _sorted_projections(first, part)[:, one] - _sorted_projections(second, part)[:, two]
        total += float((difference.square_() @ weights).sum())
    return total / basis.shape[1]


@lru_cache(maxsize=1)  # an evaluation compares many pairs of sets in the same directions
def _unit_directions(dimensions: int, count: int, seed: int) -> Tensor:
    """(D, at least `count`) columns of length 1: groups of an orthonormal basis each, uniformly distributed."""
    generator = torch.Generator().manual_seed(seed)
    width = min(dimensions, count)
    groups = [
        torch.linalg.qr(torch.randn(dimensions, width, generator=generator, dtype=torch.float64))[0]
        for _ in range(-(-count // width))
    ]
    return torch.cat(groups, dim=1)


def _sorted_projections(features: Tensor, directions: Tensor) -> Tensor:
    return torch.cat([block @ directions for _, block in row_blocks(features)]).T.sort(dim=1).values


def _quantile_pairs(n: int, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the quantile functions of n and m points are both constant: lengths (sum 1), and the point of each."""
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).unique()  # in units of 1/(n m)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return (ends - starts).double() / (n * m), starts // m, starts // n
