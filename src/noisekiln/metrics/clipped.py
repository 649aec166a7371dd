"""Clipped density and coverage: shares of samples that are good, and of good samples that the real images stand for."""

import math
from functools import cached_property

import torch
from torch import Tensor

from noisekiln.metrics.feature_rows import check_features, row_blocks
from noisekiln.metrics.neighbours import nearest, squared_distances

TOLERANCE = 1e-9  # of the median radius, squared: a sample on the surface of a ball is inside, whatever the rounding


class ClippedReference:
    """Real images that samples are scored against, with what of them is computed once (Salvy et al., ICLR 2026).

    Around each real image lies a ball that reaches to its k-th nearest other real image. Both scores fall linearly in
    the share of bad samples: 0.8 means that samples are as good, or cover as much, as if 80 % of them were real images
    and the others far from all of them.

    Args:
        real: Features, (N, D), N > k.
        k: Neighbours that define a ball.

    Raises:
        ValueError: If the shape does not fit, a feature is not finite, `k` is below 1, or at least half of the real
            features equal k others.
    """

    def __init__(self, real: Tensor, k: int = 5) -> None:
        if k < 1:
            raise ValueError(f"`k={k}` leaves no neighbours to compare with. Take 1 or more; 5 is the default.")
        check_features(real, least=k + 1)
        self.real, self.k = real, k
        self._radii = nearest(real, real, k, leave_one_out=True).distances[:, -1]
        self._median = self._radii.median()
        if not self._median:
            raise ValueError(
                f"At least half of the real images have the same features as {k} others, so nothing is near or far. "
                "Leave duplicates out, or choose other `features`."
            )

    def density(self, samples: Tensor) -> float:
        """Clipped density, from 0 to 1: mean ``min(1, balls that hold the sample / k)``, over that of real images.

        Balls are no larger than the median ball, so one outlier among the real images does not make bad samples good.

        Raises:
            ValueError: If the shape does not fit, or a feature is not finite.
        """
        mean = float(self.density_of_each(samples).clamp(max=1).mean())
        return min(1.0, mean / self._density_of_real)

    def density_of_each(self, samples: Tensor) -> Tensor:
        """Balls that hold each sample, over k: (N,) float64, 0 for a sample far from all real images, not clipped."""
        check_features(samples, self.real, least=1)
        limits = self._radii.clamp(max=self._median).square() + TOLERANCE * self._median.square()
        counts = torch.zeros(len(samples), dtype=torch.float64)
        for start, block in row_blocks(samples):
            for first, others in row_blocks(self.real):
                inside = squared_distances(block, others) <= limits[first : first + len(others)]
                counts[start : start + len(block)] += inside.sum(1)
        return counts / self.k

    @cached_property
    def _density_of_real(self) -> float:
        """What `density` averages, for the real images in the balls of the others."""
        by_others = self.density_of_each(self.real) - 1 / self.k  # each lies in its own ball
        return float(by_others.clamp(max=1).mean())

    def coverage(self, samples: Tensor) -> float:
        """Clipped coverage, from 0 to 1: the share of samples that, if they were real, would cover as much.

        A real image is covered by ``min(1, samples in its ball / k)``. The mean over real images is what `m` real
        images of `M` samples have on average (see `expected_coverage`); the score is ``m / M``. It says least where
        there are far more samples than real images: then few good ones cover all.

        Raises:
            ValueError: If the shape does not fit, a feature is not finite, or there are fewer than k samples.
        """
        check_features(samples, self.real, least=self.k)
        distances = nearest(self.real, samples, self.k).distances
        limits = self._radii.square() + TOLERANCE * self._median.square()
        covered = float((distances.square() <= limits[:, None]).double().mean())
        curve = expected_coverage(len(self.real), len(samples), self.k)
        return _position(curve, covered) / len(samples)


def expected_coverage(real: int, samples: int, k: int) -> Tensor:
    """Mean of ``min(j, k) / k`` for j of m good samples in a real image's ball, for m from 0 to `samples`: (M + 1,).

    Good samples and the other real images are exchangeable, so ``P(j) = C(m, j) B(k + j, N - k + m - j) / B(k, N - k)``
    for N real images, whatever their distribution: j samples are nearer than the k-th of N - 1 real images.
    """
    m = torch.arange(samples + 1, dtype=torch.float64)
    missing = torch.zeros_like(m)
    for j in range(k):
        log_probability = (
            _log_binomial(m, j) + _log_beta(k + j, real - k + m - j) - _log_beta(k, torch.full_like(m, real - k))
        )
        missing += torch.where(m >= j, log_probability.exp(), 0) * (1 - j / k)
    return 1 - missing


def _log_binomial(m: Tensor, j: int) -> Tensor:
    return torch.lgamma(m + 1) - math.lgamma(j + 1) - torch.lgamma(m - j + 1)


def _log_beta(first: int, second: Tensor) -> Tensor:
    return math.lgamma(first) + torch.lgamma(second) - torch.lgamma(first + second)


def _position(curve: Tensor, value: float) -> float:
    """Where a rising curve, (M + 1,), has the value: a number from 0 to M, between two of them on a straight line."""
    above = int(torch.searchsorted(curve, value))
    if above == 0 or above == len(curve):
        return float(max(0, above - 1))
    low, high = float(curve[above - 1]), float(curve[above])
    return above - 1 + (value - low) / (high - low)
