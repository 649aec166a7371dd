"""What is known replaces what is believed: replacement, DDNM, DDNM+."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.inverse.base import Inverse, dot, solve
from noisekiln.levels import Level, NoiseSource
from noisekiln.operators.base import Observation
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Replacement(Inverse):
    """``x^ + lambda A^+ (y - A x^)``: the estimate nearest to x^ that explains y (Wang et al. 2023, DDNM, eq. 13).

    Without noise lambda is 1. For a mask this is replacement: with a sampler that adds noise, known pixels are
    ``alpha y + sigma z`` at every level, and with `noisekiln.samplers.resample` it is RePaint. As if V were without
    bound; one evaluation a step.

    With noise it is DDNM+ (section 3.3): a step from t to s takes up ``a lambda std`` of y's noise, so that much less
    fresh noise is added to what is known (`adapt_sampler`), and where that is all of it, lambda falls below 1. Made for
    some 20 steps with fresh noise: the more steps, the smaller the share of each, and y ends up believed wholly.

    Args:
        iterations: Of the solve for A^+, at most; cheap.
    """

    backward: ClassVar[bool] = False
    iterations: int = 30

    def __call__(self, denoise: Denoise, seen: Observation) -> Denoise:  # noqa: D102 (the base class says it)
        def denoise_seen(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            x = denoise(x_t, t, to=to).x
            residual, push, pull = seen.around(x)
            change = solve(lambda v: pull(push(v)), pull(residual), self.iterations)[0]
            if seen.std > 0 and to is not None:
                change = change * _taken(seen.std, push(change), change, t, to).clamp(min=1).reciprocal()
            return Estimate.of_x(x_t, x + change, t)

        return denoise_seen

    def adapt_sampler(self, sampler: Sampler, seen: Observation) -> Sampler:
        """The sampler with its fresh noise lowered by what an observation's own noise brings."""
        return Lowered(sampler, seen, self.iterations) if seen.std > 0 else sampler


class Lowered(Sampler):
    """A sampler whose fresh noise is less, in what is known, by the noise that a noisy y brings into a step.

    Exact for steps that draw from q(x_s | x_t, x^): `ancestral`, ``ddim(eta=1)``; nothing changes without fresh noise.

    Args:
        sampler: Whose steps.
        seen: The observation.
        iterations: Of the solve for A^+, at most.
    """

    def __init__(self, sampler: Sampler, seen: Observation, iterations: int) -> None:
        self.sampler, self.seen, self.iterations = sampler, seen, iterations

    @property
    def cost(self) -> int:  # noqa: D102 (the base class says it)
        return self.sampler.cost

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Any, noise: NoiseSource
    ) -> tuple[Tensor, Any]:
        def lowered(like: Tensor) -> Tensor:
            fresh = noise(like)
            _, push, pull = self.seen.around(like)
            known = solve(lambda v: pull(push(v)), pull(push(fresh)), self.iterations)[0]
            taken = _taken(self.seen.std, push(known), known, t, s).clamp(max=1)
            return fresh - (1 - (1 - taken**2).sqrt()) * known

        return self.sampler.step(denoise, x_t, t, s, carry, lowered)


def _taken(std: float, seen: Tensor, known: Tensor, t: Level, s: Level) -> Tensor:
    """``a std / sqrt(v)``: the noise that A^+ y has in x_s, over the fresh noise of the step, image by image.

    With ``r = nsr_s / nsr_t`` the step has ``a = alpha_s (1 - r^2)`` and ``v = sigma_s^2 (1 - r^2)``. A^+ stretches
    y's noise by ``|known| / |seen|``, which for masks, means and grey is the same in every direction.

    Returns:
        (B, 1, ..., 1); without bound where s is clean.
    """
    r = s.nsr / t.nsr
    tiny = torch.finfo(seen.dtype).tiny  # where nothing is known
    stretch = ((dot(known, known) + tiny) / (dot(seen, seen) + tiny)).sqrt()
    return std * stretch * ((1 - r**2).sqrt() / s.nsr).to(stretch)
