"""Logarithm of the noise-to-signal ratio, EDM's noise label."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.noise_labels.base import NoiseLabel


@dataclass(frozen=True)
class LogNsr(NoiseLabel):
    """``ln(sigma / alpha) / 4`` (Karras et al. 2022, table 1), the ratio kept within [1e-5, 1e5]."""

    def __call__(self, t: Level) -> Tensor:  # noqa: D102 (the base class says it)
        return t.nsr.clamp(1e-5, 1e5).log() / 4
