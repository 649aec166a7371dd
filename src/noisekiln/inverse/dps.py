"""Diffusion posterior sampling (DPS): a step down the gradient of the misfit."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse
from noisekiln.levels import Level
from noisekiln.operators.base import Observation


@dataclass(frozen=True)
class DPS(Inverse):
    """A step of ``ddim`` ends ``scale * grad |y - A(x^(x_t))|`` lower (Chung et al. 2023, algorithm 1).

    Their correction of the step's end is put into the estimate, so that a deterministic first-order step lands on it;
    with samplers that add noise it counts up to twice. Made for a few hundred steps; works for any A, and the scale
    has to be tuned to it.

    Args:
        scale: Factor of the gradient (their zeta).
    """

    backward: ClassVar[bool] = True
    scale: float = 1.0

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        with torch.enable_grad():
            x_in = x_t.detach().requires_grad_()
            x = denoise(x_in, t, to=to).x
            misfit = (observation.y - observation.operator(x)).flatten(1).norm(dim=1).sum()
            (gradient,) = torch.autograd.grad(misfit, x_in)
        landing = t.alpha if to is None else to.alpha - to.sigma * t.alpha / t.sigma  # of a change of x^, in x_s
        return Estimate.of_x(x_t, x.detach() - self.scale / landing * gradient, t)
