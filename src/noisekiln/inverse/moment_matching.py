"""The network's own covariance: moment matching posterior sampling."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, solve
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class MomentMatching(Inverse):
    """``x^ + V A^T (A V A^T + std^2)^-1 (y - A x^)`` with ``V = (sigma^2 / alpha) J`` (Rozet et al. 2024, eq. 14-16).

    J is the derivative of x^ by x_t; Tweedie's second identity makes V the covariance of x given x_t, so that this is
    exact for every Gaussian prior, once the iterations are as many as A has ranks. One evaluation and iterations + 1
    backward passes a step. What few iterations leave unexplained is explained with V of unit Gaussian data, at no
    cost to speak of.

    Args:
        iterations: Of conjugate gradients.
        rest: Iterations for what they leave; cheap.
        least: Smallest standard deviation that an observation is credited with.
    """

    backward: ClassVar[bool] = True
    iterations: int = 2
    rest: int = 10
    least: float = 0.01

    def __call__(self, denoise: Denoise, seen: Observation) -> Denoise:  # noqa: D102 (the base class says it)
        def denoise_seen(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            with torch.enable_grad():
                x_in = x_t.detach().requires_grad_()
                x = denoise(x_in, t, to=to).x
            residual, push, pull = seen.around(x)

            def spread(v: Tensor) -> Tensor:
                if t.alpha == 0:  # x_t says nothing, so V is that of the data
                    return v
                (across,) = torch.autograd.grad(x, x_in, v, retain_graph=True)
                return float(t.sigma**2 / t.alpha) * across

            ridge = max(seen.std, self.least) ** 2
            u, left = solve(lambda u: push(spread(pull(u))) + ridge * u, residual, self.iterations)
            flat = float(t.sigma / t.norm) ** 2
            w, _ = solve(lambda w: flat * push(pull(w)) + ridge * w, left, self.rest)
            return Estimate.of_x(x_t, x.detach() + spread(pull(u)) + flat * pull(w), t)

        return denoise_seen
