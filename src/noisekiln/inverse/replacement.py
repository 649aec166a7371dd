"""Replacement of the known pixels (RePaint, DDNM, DDNM+)."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, conjugate_gradients, dot
from noisekiln.levels import Level, NoiseSource
from noisekiln.operators.base import LinearMap, Observation
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Replacement(Inverse):
    """``x^ + lambda A^+ (y - A x^)``: the estimate nearest to x^ that agrees with y (Wang et al. 2023, DDNM, eq. 13).

    Without noise in y lambda is 1. For a mask this is replacement: with a sampler that adds noise, known pixels are
    ``alpha y + sigma z`` at every level, and with `noisekiln.samplers.resample` it is RePaint. The limit of large V;
    one evaluation per step.

    With noise in y it is DDNM+ (section 3.3). In a step from t to s, ``a = alpha_s (1 - (nsr_s / nsr_t)^2)`` is the
    factor of x^ in x_s. The step therefore carries noise of deviation ``a lambda std`` from y into x_s. As much less
    fresh noise is added to the known part (`adapt_sampler`). Where y brings more noise than the step would add, lambda
    is reduced below 1. Made for about 20 steps with fresh noise: with many small steps y is reproduced with its noise.

    Args:
        iterations: Maximum number of iterations of conjugate gradients for A^+; they are cheap.
    """

    backward: ClassVar[bool] = False
    iterations: int = 30

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, observation: Observation, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        x = denoise(x_t, t, to=to).x
        residual, jvp, vjp = observation.linearize(x)
        change = _pseudo_inverse(jvp, vjp, residual, self.iterations)
        if observation.std > 0 and to is not None:
            change = change * _absorbed(observation.std, jvp(change), change, t, to).clamp(min=1).reciprocal()
        return Estimate.of_x(x_t, x + change, t)

    def adapt_sampler(self, sampler: Sampler, observation: Observation) -> Sampler:
        """The sampler with its fresh noise reduced by the noise that comes from the observation."""
        return ReducedNoise(sampler, observation, self.iterations) if observation.std > 0 else sampler


class ReducedNoise(Sampler):
    """A sampler whose fresh noise is reduced, in the known part, by the noise that a noisy y brings into a step.

    Exact for steps that draw from q(x_s | x_t, x^): `ancestral`, ``ddim(eta=1)``; nothing changes without fresh noise.

    Args:
        sampler: The sampler that does the steps.
        observation: The noisy observation.
        iterations: Maximum number of iterations of conjugate gradients for A^+.
    """

    def __init__(self, sampler: Sampler, observation: Observation, iterations: int) -> None:
        self.sampler = sampler
        self.observation = observation
        self.iterations = iterations

    @property
    def cost(self) -> int:  # noqa: D102 (the base class says it)
        return self.sampler.cost

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Any, noise: NoiseSource
    ) -> tuple[Tensor, Any]:
        def reduced(like: Tensor) -> Tensor:
            fresh = noise(like)
            _, jvp, vjp = self.observation.linearize(like)
            known = _pseudo_inverse(jvp, vjp, jvp(fresh), self.iterations)
            absorbed = _absorbed(self.observation.std, jvp(known), known, t, s).clamp(max=1)
            return fresh - (1 - (1 - absorbed**2).sqrt()) * known

        return self.sampler.step(denoise, x_t, t, s, carry, reduced)


def _pseudo_inverse(jvp: LinearMap, vjp: LinearMap, y: Tensor, iterations: int) -> Tensor:
    """``A^+ y = (A^T A)^+ A^T y``, (B, C, H, W), from A and its transpose."""
    return conjugate_gradients(lambda v: vjp(jvp(v)), vjp(y), iterations)[0]


def _absorbed(std: float, observed: Tensor, known: Tensor, t: Level, s: Level) -> Tensor:
    """``a std / sqrt(v)``: the noise that A^+ y has in x_s, over the fresh noise of the step, image by image.

    With ``r = nsr_s / nsr_t`` the step has ``a = alpha_s (1 - r^2)`` and ``v = sigma_s^2 (1 - r^2)``. A^+ stretches
    y's noise by ``|known| / |observed|``, which for masks, means and grey is the same in every direction.

    Returns:
        (B, 1, ..., 1); infinite where s is clean.
    """
    r = s.nsr / t.nsr
    tiny = torch.finfo(observed.dtype).tiny  # where nothing is known
    stretch = ((dot(known, known) + tiny) / (dot(observed, observed) + tiny)).sqrt()
    return std * stretch * ((1 - r**2).sqrt() / s.nsr)
