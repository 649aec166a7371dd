"""Stable Diffusion's table of betas, whose roots rise linearly."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.components.limits import MOST_STEPS, check_at_most
from noisekiln.schedules.tables.beta_table import BetaTable


@dataclass(frozen=True)
class ScaledLinearBetas(BetaTable):
    """Betas whose square roots rise linearly (Rombach et al. 2022); `scaled_linear` in diffusers.

    The last step is not pure noise: its noise-to-signal ratio is 14.6.

    Args:
        steps: Length of the table.
        first: Beta of the first step.
        last: Beta of the last step.
    """

    steps: int = 1000
    first: float = 0.00085
    last: float = 0.012

    def __post_init__(self) -> None:
        check_at_most("steps", self.steps, MOST_STEPS)
        if self.steps < 1 or not 0 < self.first <= self.last < 1:
            raise ValueError(
                f"{self} is no table of betas. A beta is a variance between 0 and 1, and they rise. "
                "Give a positive number of steps, a first beta above 0, and a last one below 1."
            )

    def betas(self) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.linspace(self.first**0.5, self.last**0.5, self.steps, dtype=torch.float64) ** 2
