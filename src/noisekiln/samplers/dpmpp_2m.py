"""DPM-Solver++(2M), the common multistep method for sampling in few steps."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level, NoiseSource
from noisekiln.samplers.base import Sampler

Carry = tuple[Tensor, Tensor]  # the previous estimate of x, and its log-SNR


@dataclass(frozen=True)
class DPMpp2M(Sampler):
    """Extrapolates the estimated image linearly in log-SNR (Lu et al. 2022b, algorithm 2).

    Second order, first where log-SNR is infinite (from pure noise, to clean); one evaluation per step.
    """

    order: ClassVar[int] = 2

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Carry | None, noise: NoiseSource
    ) -> tuple[Tensor, Carry]:
        x = denoise(x_t, t, to=s).x
        now, then = -t.nsr.log(), -s.nsr.log()
        aim = x
        if carry is not None:
            before, past = carry
            ahead = 0.5 * (then - now) / (now - past)  # half a step ahead, in units of the step before
            if ahead.isfinite() and (then - now).isfinite():
                aim = x + ahead * (x - before)
        return Estimate.of_x(x_t, aim, t).at(s), (x, now)
