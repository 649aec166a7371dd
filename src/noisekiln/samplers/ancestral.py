"""Ancestral sampling, DDPM's sampler."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource
from noisekiln.posterior import posterior
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Ancestral(Sampler):
    """Draws from q(x_s | x_t, x^), the textbook's reverse step (Ho et al. 2020, algorithm 2, eq. 6 and 7).

    First order in distribution; one evaluation per step; good with a few hundred steps or more. Works for any two
    levels, not only for neighbouring steps of a table.

    Args:
        variance: "small" (beta tilde; the same as ``ddim(eta=1)``) or "large" (beta), Ho et al.'s two fixed choices.
    """

    order: ClassVar[int] = 1
    variance: Literal["small", "large"] = "small"

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: None, noise: NoiseSource
    ) -> tuple[Tensor, None]:
        back = posterior(x_t, denoise(x_t, t, to=s).x, t, s)
        variance = {"small": back.small, "large": back.large}[self.variance]
        return back.mean + variance.sqrt() * noise(x_t), None
