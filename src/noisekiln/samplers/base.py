"""Base class of samplers, the grid of levels that they visit, and the sampling loop."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from numbers import Integral
from typing import Any, ClassVar

import torch
from torch import Tensor

from noisekiln.components.limits import MOST_STEPS, check_at_most
from noisekiln.estimate import Denoise
from noisekiln.levels import Level, NoiseSource
from noisekiln.schedules.base import Schedule


class Sampler(ABC):
    """Integrates ``dx = x^ d(alpha) + eps^ d(sigma)`` from level to level (and may add noise on the way).

    A sampler is a frozen dataclass of settings; the state of a multistep method is passed on in `carry`.
    """

    order: ClassVar[int]  # the error falls as steps^-order; measured by the tests

    @property
    def cost(self) -> int:
        """Evaluations of the denoiser in a step. May be overridden."""
        return 1

    @abstractmethod
    def step(
        self, denoise: Denoise, x_t: Tensor, t: Level, s: Level, carry: Any, noise: NoiseSource
    ) -> tuple[Tensor, Any]:
        """One step.

        Args:
            denoise: The model.
            x_t: Images at level t, (B, ...).
            t: Level of x_t; not clean.
            s: The level to reach; less noisy than t, and possibly clean.
            carry: State that the previous step returned; None for the first step.
            noise: Source of fresh noise.

        Returns:
            The images at level s, and the `carry` of the next step.
        """


def check_steps(steps: Any) -> int:
    """A number of steps, if it is one.

    Raises:
        ValueError: If it is not a whole number, not positive, or too large.
    """
    if isinstance(steps, bool) or not isinstance(steps, Integral):
        raise ValueError(f"`steps={steps!r}`: sampling takes a whole number of steps. Give one; 20 is a good number.")
    if steps < 1:
        raise ValueError(f"`steps={steps}`: sampling takes at least one step. Give 1 or more; 20 is a good number.")
    check_at_most("steps", int(steps), MOST_STEPS)
    return int(steps)


def grid(schedule: Schedule, steps: int, start: float = 1.0) -> list[Level]:
    """The levels to visit: `steps` + 1 of them, mostly evenly spaced in time from `start`, and the last one clean.

    A schedule whose time 0 is not clean (`Karras`) is followed to its end in one step less, and the last step goes
    from there to clean, as in EDM. A schedule with `levels` of its own (`Timesteps`) decides itself.

    Raises:
        ValueError: If `steps` is not positive or `start` not in (0, 1].
    """
    check_steps(steps)
    if not 0 < start <= 1:
        raise ValueError(
            f"Sampling cannot start at time {start}: 0 is clean, 1 is noise. Give a start above 0, and at most 1."
        )
    return schedule.levels(steps, start)


def sample(
    denoise: Denoise, sampler: Sampler, levels: Sequence[Level], x: Tensor, noise: NoiseSource
) -> Iterator[Tensor]:
    """Step through the levels, yielding the images at each one after the first; the last are clean.

    Args:
        denoise: The model.
        sampler: The method.
        levels: Levels from noisy to clean, as `grid` makes them.
        x: Images at the first level, (B, ...); to start from pure noise, ``levels[0].norm * noise``.
        noise: Source of fresh noise for samplers that add some.
    """
    carry = None
    for t, s in pairwise(levels):
        x, carry = sampler.step(denoise, x, t, s, carry, noise)
        yield x


@dataclass
class SeededNoise:
    """One generator for each image: an image's seed decides its noise, in any batch. A `NoiseSource`.

    Numbers are drawn on the CPU in float32 and then moved, so a seed gives the same image on every device.

    Args:
        seeds: Seed of each image, in [0, 2^63).
    """

    seeds: Sequence[int]

    def __post_init__(self) -> None:
        for seed in self.seeds:
            if not 0 <= seed < 2**63:
                raise ValueError(
                    f"`seed={seed}`: not a seed of a random generator. Give a whole number from 0 to 2^63 - 1."
                )
        self.generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

    def __call__(self, like: Tensor) -> Tensor:
        """Unit Gaussian noise of the shape, dtype and device of `like`, whose first dimension is as long as `seeds`."""
        drawn = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(drawn).to(like)
