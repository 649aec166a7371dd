"""A sampler of your own in a single file.

noisekiln sample RUN --sampler examples/own_sampler.py:Midpoint --steps 10
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Midpoint(Sampler):
    """Estimate the image in the middle of the step, and use this estimate for the whole step.

    The midpoint rule for ``dx = x^ d(alpha) + eps^ d(sigma)``. Second order; two evaluations a step.

    Args:
        place: Place of the estimate within the step: 0.5 is the middle. Elsewhere the method is first order.
    """

    order: ClassVar[int] = 2
    place: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.place < 1:
            raise ValueError(
                f"Midpoint(place={self.place}): the estimate must be inside of the step. Give a place between 0 and 1."
            )

    @property
    def cost(self) -> int:
        """Evaluations of the denoiser in a step."""
        return 2

    def step(
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: None, noise: NoiseSource
    ) -> tuple[Tensor, None]:
        """Move from level t to level s."""
        middle = Level(t.alpha + self.place * (s.alpha - t.alpha), t.sigma + self.place * (s.sigma - t.sigma))
        estimate = denoise(denoise(x_t, t).at(middle), middle, to=s)
        return x_t + (s.alpha - t.alpha) * estimate.x + (s.sigma - t.sigma) * estimate.eps, None
