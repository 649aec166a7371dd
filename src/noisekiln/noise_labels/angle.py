"""The angle of the level, the default."""

from dataclasses import dataclass
from math import pi

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.noise_labels.base import NoiseLabel


@dataclass(frozen=True)
class Angle(NoiseLabel):
    """``atan2(sigma, alpha) / (pi/2)``: 0 clean, 1 pure noise, finite at both ends (TrigFlow, Lu & Song 2024)."""

    def __call__(self, t: Level) -> Tensor:  # noqa: D102 (the base class says it)
        return t.angle / (pi / 2)
