"""The curve through a table of betas."""

from abc import ABC, abstractmethod
from functools import lru_cache

import torch
from torch import Tensor

from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


class BetaTable(Schedule, ABC):
    """The curve through a table of betas, ``alpha_bar_i = prod_{j <= i} (1 - beta_j)``.

    log alpha-bar is interpolated linearly in between, and time (i + 1)/steps hits step i of the table exactly.
    """

    steps: int

    @abstractmethod
    def betas(self) -> Tensor:
        """The table, (steps,) float64."""

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        table = _log_alpha_bar(self)
        position = time.double().cpu() * self.steps
        below = position.floor().long().clamp(0, self.steps - 1)
        log_alpha_bar = torch.lerp(table[below], table[below + 1], position - below).to(time.device)
        return Level((0.5 * log_alpha_bar).exp(), (-torch.expm1(log_alpha_bar)).sqrt())


@lru_cache(maxsize=8)
def _log_alpha_bar(table: BetaTable) -> Tensor:
    """(steps + 1,): at the times 0, 1/steps, ..., 1."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-table.betas()).cumsum(0)])
