"""EDM's noise levels (Karras et al. 2022) as a curve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


@dataclass(frozen=True)
class Karras(Schedule):
    """``sigma = (min^(1/rho) + time (max^(1/rho) - min^(1/rho)))^rho``, alpha = 1 (Karras et al. 2022, eq. 5).

    Time 0 is at `sigma_min`, not yet clean: grids add the clean level as their last.

    Args:
        sigma_min: Lowest noise, relative to unit-variance images (EDM's 0.002 for images of deviation 0.5).
        sigma_max: Highest noise.
        rho: Concentration of steps at low noise; 1 is uniform.
    """

    sigma_min: float = 0.004
    sigma_max: float = 160.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max or self.rho <= 0:
            raise ValueError(
                f"{self} cannot be a schedule: noise must rise along it. "
                "Give a positive sigma_min, a larger sigma_max, and a positive rho."
            )

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        sigma = (low + time.double() * (high - low)) ** self.rho
        return Level(torch.ones_like(sigma), sigma)
