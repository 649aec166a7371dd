"""Uniform distribution of a schedule's time."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.draws.base import Draw
from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine


@dataclass(frozen=True)
class Uniform(Draw):
    """Every time of the schedule is equally likely, as in flow matching and continuous-time DDPM.

    Args:
        schedule: The curve.
    """

    schedule: Schedule = Cosine()

    def __call__(self, u: Tensor) -> Level:  # noqa: D102 (the base class says it)
        return self.schedule(u)
