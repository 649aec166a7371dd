"""DDPM's table of linearly rising betas."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from noisekiln.components.limits import MOST_STEPS, check_at_most
from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


@dataclass(frozen=True)
class LinearBetas(Schedule):
    """Betas that rise linearly over `steps` steps (Ho et al. 2020, section 4), as a curve.

    ``alpha_bar_i = prod_{j <= i} (1 - beta_j)``; log alpha-bar is interpolated linearly in between, and time
    (i + 1)/steps hits step i of the table exactly. For other step counts than 1000 both ends are multiplied by
    1000/steps, so that the last step is as noisy as in the paper.

    Args:
        steps: Length of the table, at least 21 with the default ends.
        first: Beta of the first step of a 1000-step table.
        last: Beta of its last step.
    """

    steps: int = 1000
    first: float = 1e-4
    last: float = 0.02

    def __post_init__(self) -> None:
        check_at_most("steps", self.steps, MOST_STEPS)
        last = self.last * 1000 / self.steps if self.steps > 0 else 1.0
        if not 0 < self.first <= self.last or last >= 1:
            raise ValueError(
                f"linear_betas(steps={self.steps}, first={self.first}, last={self.last}): the last of the betas would "
                f"be {last:.3g}. A beta is a variance between 0 and 1, and they rise. "
                f"Give more than {int(1000 * self.last)} steps, or a smaller last beta."
            )

    def betas(self) -> Tensor:
        """The table, (steps,) float64."""
        scale = 1000 / self.steps
        return torch.linspace(scale * self.first, scale * self.last, self.steps, dtype=torch.float64)

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        table = _log_alpha_bar(self)
        position = time.double().cpu() * self.steps
        below = position.floor().long().clamp(0, self.steps - 1)
        log_alpha_bar = torch.lerp(table[below], table[below + 1], position - below).to(time.device)
        return Level((0.5 * log_alpha_bar).exp(), (-torch.expm1(log_alpha_bar)).sqrt())


@lru_cache(maxsize=8)
def _log_alpha_bar(schedule: LinearBetas) -> Tensor:
    """(steps + 1,): at the times 0, 1/steps, ..., 1."""
    return torch.cat([torch.zeros(1, dtype=torch.float64), torch.log1p(-schedule.betas()).cumsum(0)])
