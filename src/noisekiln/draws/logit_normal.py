"""Logit-normal distribution of times on the straight path, Stable Diffusion 3's."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.draws.base import Draw, normal_quantile
from noisekiln.levels import Level


@dataclass(frozen=True)
class LogitNormal(Draw):
    """``logit(u) ~ N(mean, std^2)`` on ``alpha = 1 - u, sigma = u`` (Esser et al. 2024, section 3.1).

    Since ``logit(u) = ln(sigma / alpha)`` this is `LogNormal` with the levels left on the straight path.

    Args:
        mean: Below 0 trains more at low noise, above 0 at high noise.
        std: Standard deviation of the logit.
    """

    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if self.std <= 0:
            raise ValueError(f"{self}: a normal distribution has a positive deviation. Give a std above 0.")

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        time = torch.sigmoid(normal_quantile(u, self.mean, self.std))
        return Level(1 - time, time)
