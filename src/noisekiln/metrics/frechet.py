"""Fréchet distance between two sets of features."""

import torch
from torch import Tensor

from noisekiln.metrics.feature_rows import check_features, mean_row, row_blocks


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
    means = [mean_row(features) for features in (first, second)]
    one, two = (_factor(features, mean) for features, mean in zip((first, second), means, strict=True))
    # With S1 = A'A and S2 = B'B, tr (S1 S2)^(1/2) is the sum of the singular values of A B'.
    middle = torch.linalg.svdvals(one @ two.T).sum()
    return float((means[0] - means[1]).square().sum() + one.square().sum() + two.square().sum() - 2 * middle)


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


def _factor(features: Tensor, mean: Tensor) -> Tensor:
    """A matrix A of at most (D, D) with ``A'A`` = the covariance, (D, D), of the features."""
    factor = mean.new_empty(0, len(mean))
    for _, block in row_blocks(features):
        factor = torch.cat([factor, block - mean])
        if len(factor) > len(mean):
            factor = torch.linalg.qr(factor, mode="r").R
    return factor.div_((len(features) - 1) ** 0.5)
