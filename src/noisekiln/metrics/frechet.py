"""Fréchet distance between two sets of features."""

import torch
from torch import Tensor


def frechet_distance(first: Tensor, second: Tensor) -> float:
    """``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))`` of Gaussians fitted to both sets (Heusel et al. 2017, eq. 6).

    Two samples of one distribution do not have distance 0 but, for n points of d isotropic features, about
    ``2d/n + d(d+1)/(2n)``: compare only distances at the same n, or divide by that of real against real.

    Args:
        first: Features, (N, D), N >= 2.
        second: Features, (M, D), M >= 2.

    Raises:
        ValueError: If the shapes do not fit, or a feature is not finite.
    """
    if first.ndim != 2 or second.ndim != 2 or first.shape[1] != second.shape[1] or min(len(first), len(second)) < 2:
        raise ValueError(
            f"Features of the shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared. "
            "Give (N, D) and (M, D), with at least two rows each."
        )
    if not (first.isfinite().all() and second.isfinite().all()):
        raise ValueError(
            "Some features are not finite, so no Gaussian fits them. Check the images that they were computed from."
        )
    one, two = first.double(), second.double()
    covariances = [torch.atleast_2d(features.T.cov()) for features in (one, two)]
    # tr (S1 S2)^(1/2) = sum of the roots of the eigenvalues of the symmetric S1^(1/2) S2 S1^(1/2).
    root = _root(covariances[0])
    middle = torch.linalg.eigvalsh(root @ covariances[1] @ root).clamp(min=0).sqrt().sum()
    traces = sum(covariance.trace() for covariance in covariances)
    return float((one.mean(0) - two.mean(0)).square().sum() + traces - 2 * middle)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    root: Tensor = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    return root
