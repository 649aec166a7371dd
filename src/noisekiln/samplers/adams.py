"""Adams-Bashforth, second-order multistep; accurate with few steps."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level, NoiseSource
from noisekiln.samplers.base import Sampler

Carry = tuple[Estimate, Tensor]  # the previous estimate, and its angle
CLOSEST = 1e-9  # radians: between closer or equal levels, the slope of the estimates is rounding error, or 0/0


@dataclass(frozen=True)
class Adams(Sampler):
    """Extrapolates the estimate to the step's middle, linearly in ``angle = atan2(sigma, alpha)``.

    The two-step Adams-Bashforth method for the motion ``dx = x^ d(alpha) + eps^ d(sigma)``; on EDM's levels it is
    iPNDM of order 2 (Zhang & Chen 2023) with the steps' true ratio. Because the angle is finite where log-SNR is not,
    it keeps second order from pure noise to clean; one evaluation per step.
    """

    order: ClassVar[int] = 2

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Carry | None, noise: NoiseSource
    ) -> tuple[Tensor, Carry]:
        here = denoise(x_t, t, to=s)
        if carry is None:
            return here.at(s), (here, t.angle)
        before, angle = carry
        if angle - t.angle < CLOSEST:
            return here.at(s), (here, t.angle)
        middle = before.toward(here, 1 + (s.angle - t.angle) / (2 * (t.angle - angle)))
        return middle.advance(x_t, t, s), (here, t.angle)
