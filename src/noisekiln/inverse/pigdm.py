"""Pseudo-inverse guidance (PiGDM)."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, conjugate_gradients, estimate_with_covariance
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class PiGDM(Inverse):
    """``x^ + V A^T (r^2 A A^T + std^2)^-1 (y - A x^)`` with ``V = (sigma^2 / alpha) J^T`` (Song et al. 2023, eq. 8, 9).

    J is the derivative of x^ by x_t, and ``r^2 = sigma^2 / (alpha^2 + sigma^2)`` is V of unit Gaussian data, for which
    it is exact. One evaluation and one backward pass per step.

    Args:
        min_std: Least standard deviation of the noise that an observation is assumed to have.
        iterations: Maximum number of iterations of conjugate gradients; they are cheap.
    """

    backward: ClassVar[bool] = True
    min_std: float = 0.01
    iterations: int = 30

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        x, covariance = estimate_with_covariance(denoise, x_t, t, to)
        residual, jvp, vjp = observation.linearize(x)
        spread = float(t.sigma / t.norm) ** 2
        ridge = max(observation.std, self.min_std) ** 2
        u, _ = conjugate_gradients(lambda u: spread * jvp(vjp(u)) + ridge * u, residual, self.iterations)
        return Estimate.of_x(x_t, x + covariance(vjp(u)), t)
