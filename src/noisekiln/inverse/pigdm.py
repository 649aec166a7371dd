"""Pseudo-inverse guidance (PiGDM)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, conjugate_gradients
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class PiGDM(Inverse):
    """``x^ + (sigma^2 / alpha) J^T A^T (r^2 A A^T + std^2)^-1 (y - A x^)`` (Song et al. 2023, eq. 8 and 9).

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
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            x = denoise(x_in, t, to=to).x
        residual, jvp, vjp = observation.linearize(x)
        spread = float(t.sigma / t.norm) ** 2
        ridge = max(observation.std, self.min_std) ** 2
        u, _ = conjugate_gradients(lambda u: spread * jvp(vjp(u)) + ridge * u, residual, self.iterations)
        if t.alpha == 0:  # x_t holds nothing of x, so V is that of the data
            return Estimate.of_x(x_t, x.detach() + vjp(u), t)
        (gradient,) = torch.autograd.grad(x, x_in, vjp(u))
        return Estimate.of_x(x_t, x.detach() + float(t.sigma**2 / t.alpha) * gradient, t)
