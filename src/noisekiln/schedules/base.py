"""Base class of schedules."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from noisekiln.levels import CLEAN, Level


class Schedule(ABC):
    """A curve from time in [0, 1] to levels: 0 is clean, 1 is noise, and the noise-to-signal ratio rises strictly.

    Schedules are frozen dataclasses, never Modules: there are no buffers that an EMA could average.
    """

    @abstractmethod
    def __call__(self, time: Tensor) -> Level:
        """The level at each time: both coefficients have the shape of `time`; computed in float64."""

    def time(self, t: Level) -> Tensor:
        """The time of a level (of any scale: its angle decides), by bisection to 1e-12; outside the curve, its end.

        float64 on the CPU, wherever the level is: some devices have no float64, and bisection is many small steps.
        """
        angle = t.angle.cpu().double()
        low, high = torch.zeros_like(angle), torch.ones_like(angle)
        for _ in range(42):
            middle = (low + high) / 2
            above = self(middle).angle < angle
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return (low + high) / 2

    def levels(self, steps: int, start: float) -> list[Level]:
        """The levels that `steps` steps of sampling visit, noisiest first; `steps` + 1 of them.

        May be overridden by a schedule with a spacing of its own; by default they are evenly spaced in time, and the
        last one is clean. A curve whose time 0 is not clean is followed to its end in one step less.

        Args:
            steps: Number of steps, >= 1.
            start: Time of the first level, in (0, 1].
        """
        ends_clean = bool(self(torch.zeros((), dtype=torch.float64)).sigma == 0)
        times = torch.linspace(start, 0, steps + 1 if ends_clean else steps, dtype=torch.float64)
        return [*(self(time) for time in times[: steps if ends_clean else None]), CLEAN]
