"""The straight path of rectified flow and flow matching."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.levels import Level
from noisekiln.schedules.base import Schedule


@dataclass(frozen=True)
class Rectified(Schedule):
    """``alpha = 1 - u``, ``sigma = u`` with ``u = shift time / (1 + (shift - 1) time)``.

    Rectified flow (Liu et al. 2023) and, with a shift above 1 for larger images, Stable Diffusion 3 (Esser et al.
    2024, eq. 23).

    Args:
        shift: More than 1 spends more of the time at high noise; 1 is the plain straight line.
    """

    shift: float = 1.0

    def __post_init__(self) -> None:
        if self.shift <= 0:
            raise ValueError(f"rectified(shift={self.shift}): time would run backwards. Give a shift above 0.")

    def __call__(self, time: Tensor) -> Level:  # noqa: D102 (the base class says it)
        u = time.double()
        span = 1 + (self.shift - 1) * u
        return Level((1 - u) / span, self.shift * u / span)  # not 1 - sigma, which may leave 1e-16 at time 1
