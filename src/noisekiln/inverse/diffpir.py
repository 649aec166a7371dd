"""DiffPIR: a proximal step towards the observation."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, conjugate_gradients
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class DiffPIR(Inverse):
    """``argmin_x |y - A x|^2 / std^2 + strength |x - x^|^2 / nsr^2`` (Zhu et al. 2023, eq. 12 and 13).

    The Gaussian update with ``V = nsr^2 / strength``; one evaluation per step.

    Args:
        strength: Weight of the model's estimate against the observation, > 0 (their lambda).
        min_std: Least standard deviation of the noise that an observation is assumed to have.
        iterations: Maximum number of iterations of conjugate gradients; they are cheap.
    """

    backward: ClassVar[bool] = False
    strength: float = 1.0
    min_std: float = 0.01
    iterations: int = 30

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        x = denoise(x_t, t, to=to).x
        residual, jvp, vjp = observation.linearize(x)
        ridge = self.strength * max(observation.std, self.min_std) ** 2 / float(t.nsr) ** 2
        x = x + vjp(conjugate_gradients(lambda u: jvp(vjp(u)) + ridge * u, residual, self.iterations)[0])
        return Estimate.of_x(x_t, x, t)
