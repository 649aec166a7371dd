"""DDIM: the first-order step, with an adjustable share of fresh noise."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class DDIM(Sampler):
    """``x_s = alpha_s x^ + sigma_s (sqrt(1 - f) eps^ + sqrt(f) z)`` (Song et al. 2021, eq. 12 and 16).

    The fresh share is ``f = eta^2 (1 - (alpha_t sigma_s / (alpha_s sigma_t))^2)``. First order; one evaluation per
    step. With eta = 0 it is also EDM's and flow matching's Euler step.

    Args:
        eta: 0 adds no noise: the seed alone decides the image. 1 is DDPM with the small variance.
    """

    order: ClassVar[int] = 1
    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(
                f"ddim(eta={self.eta}): a share of fresh noise lies between 0 and 1. Give 0 (none) to 1 (as in DDPM)."
            )

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: None, noise: NoiseSource
    ) -> tuple[Tensor, None]:
        here = denoise(x_t, t, to=s)
        if self.eta > 0:
            fresh = self.eta**2 * (1 - (t.alpha * s.sigma / (s.alpha * t.sigma)) ** 2)
            here = here._replace(eps=(1 - fresh).sqrt() * here.eps + fresh.sqrt() * noise(x_t))
        return here.at(s), None
