"""Resampling: each step repeated several times, as in RePaint."""

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource, renoise
from noisekiln.samplers.ancestral import Ancestral
from noisekiln.samplers.base import Sampler


@dataclass(frozen=True)
class Resample(Sampler):
    """Repeats each step after adding its noise again (Lugmayr et al. 2022, algorithm 1, with jumps of one step).

    Makes the pixels set by an inverse method consistent with those that the model generates around them. With
    `noisekiln.inverse.replacement` it is RePaint.

    Args:
        sampler: The sampler whose steps are repeated.
        times: Number of times that each step is done, >= 1.
    """

    order: ClassVar[int] = 1
    sampler: Sampler = Ancestral()
    times: int = 10

    def __post_init__(self) -> None:
        if self.times < 1:
            raise ValueError(
                f"resample(times={self.times}): every step is done at least once. Give 1 or more; RePaint uses 10."
            )

    @property
    def cost(self) -> int:
        """Evaluations of a step; the last step is done once."""
        return self.times * self.sampler.cost

    def step(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Any, noise: NoiseSource
    ) -> tuple[Tensor, Any]:
        x_s, after = self.sampler.step(denoise, x_t, t, s, carry, noise)
        for _ in range(1, self.times if s.sigma > 0 else 1):  # the last step is done once
            x_s, after = self.sampler.step(denoise, renoise(x_s, s, t, noise(x_s)), t, s, carry, noise)
        return x_s, after
