"""The cosine schedule."""

from dataclasses import dataclass
from math import cos, pi

import torch
from torch import Tensor

from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


@dataclass(frozen=True)
class Cosine(Schedule):
    """``alpha_bar = f(time)/f(0)``, ``f = cos^2((time + offset)/(1 + offset) pi/2)`` (Nichol & Dhariwal 2021, eq. 17).

    As a curve it needs no clipped betas: alpha is exactly 0 at time 1, where an eps-prediction says nothing about the
    image; `Diffusion` then starts its grid a little earlier.

    Args:
        offset: Keeps the first steps from being too small; 0 gives the plain quarter circle.
    """

    offset: float = 0.008

    def __post_init__(self) -> None:
        if self.offset < 0:
            raise ValueError(f"cosine(offset={self.offset}): the curve would turn back. Give an offset of 0 or more.")

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        start = self.offset / (1 + self.offset) * pi / 2
        angle = start + time.double() * (pi / 2 - start)
        alpha = torch.sin(pi / 2 - angle) / cos(start)  # not cos(angle), which leaves 6e-17 at pi/2
        # 1 - alpha^2 as a product, which keeps its digits near the clean end.
        sigma = (torch.sin(angle - start) * torch.sin(angle + start)).clamp(min=0).sqrt() / cos(start)
        return Level(alpha.clamp(0, 1), sigma)
