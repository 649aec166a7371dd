"""Uniform distribution over T discrete steps, DDPM's."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.draws.base import Draw
from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.linear_betas import LinearBetas


@dataclass(frozen=True)
class Steps(Draw):
    """One of `count` steps, each equally likely: ``t ~ Uniform({1, ..., T})`` (Ho et al. 2020, algorithm 1).

    Args:
        schedule: The curve; step i (from 0) is its time (i + 1)/count.
        count: T.
    """

    schedule: Schedule = LinearBetas()
    count: int = 1000

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"steps(count={self.count}): there would be no step to draw. Give a count of 1 or more.")

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        return self.schedule(((u * self.count).floor() + 1) / self.count)
