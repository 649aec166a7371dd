"""The textbook's chain of T steps: q(x_t | x_{t-1}), q(x_t | x_0) and q(x_{t-1} | x_t, x_0) under their own names.

Lessons and papers count T steps; here step i = 1, ..., T of a schedule is its time i/T, and step 0 is the clean image
(on `karras`, its least noise). Only this module counts steps: samplers use the same formulas between any two levels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.levels import CLEAN, Level, renoise
from noisekiln.posterior import Posterior, posterior
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.linear_betas import LinearBetas


@dataclass(frozen=True)
class Chain:
    """A schedule divided into T steps.

    Args:
        schedule: The curve.
        steps: T; for `LinearBetas` the length of its table.
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
        """A sample of q(x_i | x_{i-1}) = N(sqrt(1 - beta_i) x_{i-1}, beta_i) (Ho et al. 2020, eq. 2)."""
        return renoise(x_previous, self.level(i - 1), self.level(i), noise)

    def q_sample(self, x_0: Tensor, i: int, noise: Tensor) -> Tensor:
        """A sample of q(x_i | x_0) = N(sqrt(alpha_bar_i) x_0, 1 - alpha_bar_i) (eq. 4)."""
        return renoise(x_0, CLEAN, self.level(i), noise)

    def q_posterior(self, x_0: Tensor, x_i: Tensor, i: int) -> Posterior:
        """q(x_{i-1} | x_i, x_0) (eq. 6 and 7), with both variances."""
        return posterior(x_i, x_0, self.level(i), self.level(i - 1))
