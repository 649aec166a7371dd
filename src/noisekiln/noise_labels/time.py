"""Time on a schedule, DDPM's noise label."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.linear_betas import LinearBetas


@dataclass(frozen=True)
class Time(NoiseLabel):
    """The level's time on a schedule, in [0, 1]; times `scale`, and minus 1 for networks that count from step 0.

    Computed on the CPU, with one copy of the levels to it.

    Args:
        schedule: The curve.
        scale: 1 for time itself; 1000 with `from_zero` gives DDPM's integer steps 0, ..., 999.
        from_zero: Whether steps are counted from 0, not from 1.
    """

    schedule: Schedule = LinearBetas()
    scale: float = 1.0
    from_zero: bool = False

    def __call__(self, t: Level) -> Tensor:  # noqa: D102 (the base class says it)
        return self.schedule.time(t) * self.scale - float(self.from_zero)
