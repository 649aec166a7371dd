"""The textbook chain: q(x_t | x_{t-1}), q(x_t | x_0) and q(x_{t-1} | x_t, x_0) under their own names.

Lessons and papers count T steps; here step i = 1, ..., T of a schedule is its time i/T, and step 0 is the clean image
(on `karras`, its least noise). Nothing else in noisekiln counts so: samplers use the same formulas between any levels.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from noisekiln.levels import CLEAN, Level, renoise
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.linear_betas import LinearBetas


class Posterior(NamedTuple):
    """q(x_s | x_t, x): its mean, and the two fixed variances of Ho et al. 2020, section 3.2.

    Attributes:
        mean: The shape of ``x_t``.
        small: ``beta tilde``: exact when every image is one and the same.
        large: ``beta``: exact when images are unit Gaussian noise; 0 where the step ends clean.
    """

    mean: Tensor
    small: Tensor
    large: Tensor


def posterior(x_t: Tensor, x: Tensor, t: Level, s: Level) -> Posterior:
    """The step back from level t to a less noisy s, if the clean image were x (Ho et al. 2020, eq. 6 and 7).

    With the share ``k = alpha_t sigma_s / (alpha_s sigma_t)`` of noise that t and s have in common:
    ``mean = alpha_s x + k sigma_s eps``, ``small = sigma_s^2 (1 - k^2)``, ``large = 1 - (alpha_t/alpha_s)^2`` for
    levels of norm 1, and scaled with them otherwise. Nothing is divided by a coefficient that a schedule brings to 0.

    Args:
        x_t: Noisy images at level t, (B, ...).
        x: Their clean images, or an estimate of them.
        t: Where they are; sigma_t > 0.
        s: Where they go.
    """
    k = t.alpha * s.sigma / (s.alpha * t.sigma)
    eps = (x_t - t.alpha * x) / t.sigma
    cosine_ratio = (t.alpha / t.norm) / (s.alpha / s.norm)
    large = s.norm**2 * (1 - cosine_ratio**2) * (s.sigma > 0)
    return Posterior(s.alpha * x + k * s.sigma * eps, s.sigma**2 * (1 - k**2), large)


@dataclass(frozen=True)
class Chain:
    """A schedule cut into T steps.

    Args:
        schedule: The curve.
        steps: T; the table's own length for `LinearBetas`.
    """

    schedule: Schedule = LinearBetas()
    steps: int = 1000

    def level(self, i: int) -> Level:
        """The level of step i in 0, ..., T."""
        if not 0 <= i <= self.steps:
            raise ValueError(
                f"step {i} is not on a chain of {self.steps} steps. Steps go from 0 (clean) to {self.steps}."
            )
        return self.schedule(torch.tensor(i / self.steps, dtype=torch.float64))

    def alpha_bar(self, i: int) -> Tensor:
        """``prod_{j <= i} alpha_j = alpha(i)^2``."""
        return self.level(i).alpha ** 2

    def beta(self, i: int) -> Tensor:
        """``beta_i = 1 - alpha_bar_i / alpha_bar_{i-1}``."""
        return 1 - self.alpha_bar(i) / self.alpha_bar(i - 1)

    def q_step(self, x_previous: Tensor, i: int, noise: Tensor) -> Tensor:
        """A draw of q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i) (Ho et al. 2020, eq. 2)."""
        return renoise(x_previous, self.level(i - 1), self.level(i), noise)

    def q_sample(self, x_0: Tensor, i: int, noise: Tensor) -> Tensor:
        """A draw of q(x_i | x_0) = N(sqrt(alpha_bar_i) x_0, 1 - alpha_bar_i) (eq. 4)."""
        return renoise(x_0, CLEAN, self.level(i), noise)

    def q_posterior(self, x_0: Tensor, x_i: Tensor, i: int) -> Posterior:
        """q(x_{i-1} | x_i, x_0) (eq. 6 and 7), with both variances."""
        return posterior(x_i, x_0, self.level(i), self.level(i - 1))
