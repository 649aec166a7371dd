"""Moment matching posterior sampling: the covariance from the network's Jacobian."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, conjugate_gradients, estimate_with_covariance
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class MomentMatching(Inverse):
    """``x^ + V A^T (A V A^T + std^2)^-1 (y - A x^)`` with ``V = (sigma^2 / alpha) J`` (Rozet et al. 2024, eq. 14-16).

    J is the derivative of x^ by x_t; Tweedie's second identity makes V the covariance of x given x_t, so that this is
    exact for every Gaussian prior, once the iterations are as many as the rank of A. One evaluation and iterations + 1
    backward passes per step. The residual of few iterations is explained with V of unit Gaussian data, at little cost.

    Args:
        iterations: Number of iterations of conjugate gradients, each with a backward pass.
        residual_iterations: Number of iterations for their residual; they are cheap.
        min_std: Least standard deviation of the noise that an observation is assumed to have.
    """

    backward: ClassVar[bool] = True
    iterations: int = 2
    residual_iterations: int = 10
    min_std: float = 0.01

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        x, covariance = estimate_with_covariance(denoise, x_t, t, to)
        residual, jvp, vjp = observation.linearize(x)
        ridge = max(observation.std, self.min_std) ** 2
        u, left = conjugate_gradients(lambda u: jvp(covariance(vjp(u))) + ridge * u, residual, self.iterations)
        flat = float(t.sigma / t.norm) ** 2
        w, _ = conjugate_gradients(lambda w: flat * jvp(vjp(w)) + ridge * w, left, self.residual_iterations)
        return Estimate.of_x(x_t, x + covariance(vjp(u)) + flat * vjp(w), t)
