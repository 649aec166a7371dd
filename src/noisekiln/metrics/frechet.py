"""Fréchet distance between two sets of features."""

import torch
from torch import Tensor

from noisekiln.metrics.rows import check_features, row_blocks


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of Gaussians fitted to both sets (Heusel et al. 2017, eq. 6).

    Two samples of one distribution do not have distance 0 but about `frechet_bias`: compare only distances at the same
    n, or divide by that of real against real.

    Args:
        first: Features, (N, D), N >= 2.
        second: Features, (M, D), M >= 2.

    Raises:
        ValueError: If the shapes do not fit, or a feature is not finite.
    """
    check_features(first, second)
    means, covariances = zip(*(_moments(features) for features in (first, second)), strict=True)
    # tr (S1 S2)^(1/2) = sum of the roots of the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2).
    root = _root(covariances[0])
    middle = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    traces = sum(covariance.trace() for covariance in covariances)
    return float((means[0] - means[1]).square().sum() + traces - 2 * middle)


def frechet_bias(n: int, m: int, dimensions: int) -> float:
    """Mean Fréchet distance of two samples, of n and m rows, from one unit Gaussian of d dimensions, for n, m >> d.

    ``d (1/n + 1/m) + d (d + 1) / 4 (1/n + 1/m)``: the means differ by the first term, and covariances that differ by A
    contribute ``|A|^2 / 4`` to second order. For n = m this is ``2d/n + d(d+1)/(2n)``.

    Raises:
        ValueError: If one of the numbers is below 1.
    """
    if min(n, m, dimensions) < 1:
        raise ValueError(
            f"Samples of {n} and {m} rows with {dimensions} features have no distance. Take 1 or more of each."
        )
    return (1 / n + 1 / m) * dimensions * (1 + (dimensions + 1) / 4)


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D), in float64 and without a copy of the set."""
    mean = features.mean(0, dtype=torch.float64)
    covariance = mean.new_zeros(len(mean), len(mean))
    for _, block in row_blocks(features):
        covariance.addmm_((block - mean).T, block - mean)
    return mean, covariance / (len(features) - 1)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
