"""Log-normal distribution of noise-to-signal ratios, EDM's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.draws.base import Draw, normal_quantile
from noisekiln.levels import Level


@dataclass(frozen=True)
class LogNormal(Draw):
    """``ln(sigma / alpha) ~ N(mean, std^2)`` (Karras et al. 2022, table 1).

    EDM's mean of -1.2 is for images of standard deviation 0.5; ours have 1, hence -1.2 + ln 2 = -0.5.

    Args:
        mean: Mean of the natural logarithm of the noise-to-signal ratio.
        std: Standard deviation of that logarithm.
    """

    mean: float = -0.5
    std: float = 1.2

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"{self}: a normal distribution has a positive deviation. Give a std above 0.")

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        angle = normal_quantile(u, self.mean, self.std).exp().atan()
        return Level(torch.cos(angle), torch.sin(angle))
