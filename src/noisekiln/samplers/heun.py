"""Heun's second-order method, EDM's deterministic sampler."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Heun(Sampler):
    """The trapezoid rule: average the estimates at both ends of the step (Karras et al. 2022, algorithm 1).

    Second order; two evaluations per step, one in a step that ends clean, where the estimate is the image.
    """

    order: ClassVar[int] = 2

    @property
    def cost(self) -> int:
        """Two evaluations, one in a step that ends clean."""
        return 2

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: None, noise: NoiseSource
    ) -> tuple[Tensor, None]:
        here = denoise(x_t, t, to=s)
        x_s = here.at(s)
        if s.sigma > 0:
            x_s = here.toward(denoise(x_s, s), 0.5).advance(x_t, t, s)
        return x_s, None
