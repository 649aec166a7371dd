"""What is known replaces what is believed: replacement, DDNM."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, estimate, solve
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class Replacement(Inverse):
    """``x^ + lambda A^+ (y - A x^)``: the estimate nearest to x^ that explains y (Wang et al. 2023, DDNM, eq. 13).

    With noise, lambda is ``min(1, sigma / (alpha std))``, as in DDNM+ (section 3.3), whose lowering of the sampler's
    fresh noise is left out: noisy observations are trusted a little too much. For a mask this is replacement: with a
    sampler that adds noise, known pixels are ``alpha y + sigma z`` at every level, and with
    `noisekiln.samplers.resample` it is RePaint. As if V were without bound; one evaluation a step.

    Args:
        iterations: Of the solve for A^+, at most; cheap.
    """

    backward: ClassVar[bool] = False
    iterations: int = 30

    def __call__(self, denoise: Denoise, seen: Observation) -> Denoise:  # noqa: D102 (the base class says it)
        def denoise_seen(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            x = denoise(x_t, t, to=to).x
            residual, push, pull = seen.around(x)
            share = min(1.0, float(t.nsr) / seen.std) if seen.std > 0 else 1.0
            x = x + share * solve(lambda v: pull(push(v)), pull(residual), self.iterations)[0]
            return estimate(x_t, x, t)

        return denoise_seen
