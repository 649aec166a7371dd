"""A proximal step towards the observation: DiffPIR."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, solve
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class DiffPIR(Inverse):
    """``argmin_x |y - A x|^2 / std^2 + strength |x - x^|^2 / nsr^2`` (Zhu et al. 2023, eq. 12 and 13).

    The Gaussian update with ``V = nsr^2 / strength``; one evaluation a step.

    Args:
        strength: How much the model's belief counts against the observation, > 0 (their lambda).
        least: Smallest standard deviation that an observation is credited with.
        iterations: Of the solve, at most; cheap.
    """

    backward: ClassVar[bool] = False
    strength: float = 1.0
    least: float = 0.01
    iterations: int = 30

    def __call__(self, denoise: Denoise, seen: Observation) -> Denoise:  # noqa: D102 (the base class says it)
        def denoise_seen(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            x = denoise(x_t, t, to=to).x
            residual, push, pull = seen.around(x)
            ridge = self.strength * max(seen.std, self.least) ** 2 / float(t.nsr) ** 2
            x = x + pull(solve(lambda u: push(pull(u)) + ridge * u, residual, self.iterations)[0])
            return Estimate.of_x(x_t, x, t)

        return denoise_seen
