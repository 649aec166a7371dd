"""Posterior of the reverse step, q(x_s | x_t, x): its mean and its two variances."""

from typing import NamedTuple

from torch import Tensor

from noisekiln.estimate import Estimate
from noisekiln.levels import Level


class Posterior(NamedTuple):
    """q(x_s | x_t, x): its mean, and the two fixed variances of Ho et al. 2020, section 3.2.

    Attributes:
        mean: The shape of ``x_t``.
        small: ``beta tilde``: exact when all images are the same.
        large: ``beta``: exact when images are unit Gaussian noise; 0 where the step ends clean.
    """

    mean: Tensor
    small: Tensor
    large: Tensor


def posterior(x_t: Tensor, x: Tensor, t: Level, s: Level) -> Posterior:
    """The step back from level t to a less noisy s, if the clean image were x (Ho et al. 2020, eq. 6 and 7).

    With the share ``k = alpha_t sigma_s / (alpha_s sigma_t)`` of noise that t and s have in common:
    ``mean = alpha_s x + k sigma_s eps``, ``small = sigma_s^2 (1 - k^2)``, ``large = 1 - (alpha_t/alpha_s)^2`` for
    levels of norm 1; other levels scale it. Nothing is divided by a coefficient that is 0 at an end of a schedule.

    Args:
        x_t: Noisy images at level t, (B, ...).
        x: Clean images, or an estimate of them.
        t: Level of x_t; sigma_t > 0.
        s: The level of the result.
    """
    k = t.alpha * s.sigma / (s.alpha * t.sigma)
    eps = Estimate.of_x(x_t, x, t).eps
    cosine_ratio = (t.alpha / t.norm) / (s.alpha / s.norm)
    large = s.norm**2 * (1 - cosine_ratio**2) * (s.sigma > 0)
    return Posterior(s.alpha * x + k * s.sigma * eps, s.sigma**2 * (1 - k**2), large)
