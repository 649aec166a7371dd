"""Whole steps of a table of betas, spaced as the schedulers of diffusers space them."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from noisekiln.levels import CLEAN, Level
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.scaled_linear_betas import ScaledLinearBetas
from noisekiln.schedules.tables.beta_table import BetaTable

Spacing = Literal["leading", "linspace", "trailing"]


@dataclass(frozen=True)
class Timesteps(Schedule):
    """The curve of a table, of which sampling visits whole steps (Lin et al. 2024, table 2, names the spacings).

    Of T steps, n are visited: ``leading`` is ``0, T//n, 2 T//n, ...`` plus `offset`; ``trailing`` is
    ``T-1, T-1 - T/n, ...``; ``linspace`` goes evenly from ``T-1`` to 0. Stable Diffusion is published with the spacing
    "leading" and offset 1: with these, `ddim` is `EulerDiscreteScheduler`, with ``end='first'`` too it is
    `DDIMScheduler`, and with ``left_out=1``, `dpmpp_2m` is `DPMSolverMultistepScheduler`.

    Args:
        table: The table of betas.
        spacing: How the steps are spaced: leading, linspace or trailing.
        offset: Added to each step of the spacing "leading".
        left_out: Lowest steps of the spacing that are left out: as many more are spaced (not for "trailing").
        end: The last level: "clean", or the "first" step of the table, which is slightly noisy.
    """

    table: Schedule = ScaledLinearBetas()
    spacing: Spacing = "trailing"
    offset: int = 0
    left_out: int = 0
    end: Literal["clean", "first"] = "clean"

    def __post_init__(self) -> None:
        if not isinstance(self.table, BetaTable):
            raise ValueError(
                f"timesteps(table={self.table}): this curve has no steps. Give a table of betas: linear_betas or "
                "scaled_linear_betas."
            )
        if not 0 <= self.offset < self.table.steps or not 0 <= self.left_out < self.table.steps:
            raise ValueError(
                f"timesteps(offset={self.offset}, left_out={self.left_out}): not possible in a table of "
                f"{self.table.steps:,} steps. Give whole numbers of 0 or more, such as offset=1 and left_out=0."
            )

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        return self.table(time)

    def timesteps(self, steps: int, start: float = 1.0) -> Tensor:
        """Numbers of the steps of the table that are visited, (steps,) int64, falling.

        Args:
            steps: How many are visited.
            start: Time to begin at, in (0, 1]: only the steps of the table up to it are spaced.

        Raises:
            ValueError: If the table has fewer steps.
        """
        assert isinstance(self.table, BetaTable)
        last = max(1, round(start * self.table.steps))
        points = steps + (0 if self.spacing == "trailing" else self.left_out)
        if points > last:
            raise ValueError(
                f"`steps={steps}`: {points} whole steps cannot be visited in the {last:,} of the table up to the "
                "start. Use fewer `steps`, or a larger `strength`."
            )
        return _SPACINGS[self.spacing](points, last, self.offset).flip(0)[:steps]

    def levels(self, steps: int, start: float) -> list[Level]:
        """The levels of `timesteps`, and then the `end`."""
        assert isinstance(self.table, BetaTable)
        times = (self.timesteps(steps, start).double() + 1) / self.table.steps
        first = self(torch.tensor(1 / self.table.steps, dtype=torch.float64))
        return [*(self(time) for time in times), CLEAN if self.end == "clean" else first]


def _leading(points: int, last: int, offset: int) -> Tensor:
    return (torch.arange(points) * (last // points) + offset).clamp(max=last - 1)


def _linspace(points: int, last: int, offset: int) -> Tensor:
    return torch.linspace(0, last - 1, points, dtype=torch.float64).round().long()


def _trailing(points: int, last: int, offset: int) -> Tensor:
    return torch.linspace(last / points, last, points, dtype=torch.float64).round().long() - 1


_SPACINGS = {"leading": _leading, "linspace": _linspace, "trailing": _trailing}
