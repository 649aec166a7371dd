"""DDPM's table of linearly rising betas."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.components.limits import MOST_STEPS, check_at_most
from noisekiln.schedules.tables.beta_table import BetaTable


@dataclass(frozen=True)
class LinearBetas(BetaTable):
    """Betas that rise linearly over `steps` steps (Ho et al. 2020, section 4), as a curve.

    Time (i + 1)/steps hits step i of the table exactly. For other step counts than 1000 both ends are multiplied by
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

    def betas(self) -> Tensor:  # noqa: D102 (the base class says it)
        scale = 1000 / self.steps
        return torch.linspace(scale * self.first, scale * self.last, self.steps, dtype=torch.float64)
