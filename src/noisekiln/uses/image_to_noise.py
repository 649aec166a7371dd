"""Inversion of images to the noise from which deterministic sampling leads to them, then sampling from it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noisekiln.codecs.base import Size
from noisekiln.estimate import Denoise, Estimate
from noisekiln.flow.inversion import invert
from noisekiln.levels import Level
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Decode, Progress
from noisekiln.samplers.ddim import DDIM
from noisekiln.schedules.base import Schedule

SAMPLER = DDIM()  # the sampler that the inversion is exact for
STEPS = 40  # enough to reconstruct an image to within a grey level


@dataclass(frozen=True, eq=False)
class Inversion:
    """An inversion that has not begun.

    Attributes:
        denoise: The model with the condition of the images.
        levels: Levels from noisy to clean.
        x: Encoded images, (B, C', H', W').
        decode: Function from x to images.
    """

    denoise: Denoise
    levels: Sequence[Level]
    x: Tensor
    decode: Decode

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.levels) - 1

    def unit_noise(self, x_t: Tensor) -> Tensor:
        """The unit noise that, added to x, gives ``x_t`` at the noisiest level."""
        return Estimate.of_x(x_t, self.x, self.levels[0]).eps


@torch.no_grad()
def prepare_inversion(
    model: Diffusion,
    x: Tensor,
    size: Size,
    conditions: Sequence[Any],
    *,
    steps: int | None = None,
    strength: float = 1.0,
    schedule: str | Schedule | None = None,
    precision: str = "auto",
) -> Inversion:
    """The inversion of images by a model.

    Args:
        model: Model of such images.
        x: Encoded images, (B, C', H', W').
        size: Height and width of the images in pixels.
        conditions: Condition of each image, None for an unconditional one.
        steps: Steps from clean to pure noise.
        strength: Share of noise to invert to, in (0, 1].
        schedule: Noise schedule; the model's by default.
        precision: Precision of the network, as for `Diffusion.generate`.
    """
    levels = model.levels(schedule, STEPS if steps is None else steps, strength)
    denoise = model.bind(conditions, 1.0, size, precision=precision)
    return Inversion(denoise, levels, x, partial(model.codec.decode, size=size))


@torch.no_grad()
def invert_and_generate(
    inversions: Sequence[Inversion], generate: Callable[[list[Tensor]], Iterator[Progress]], *, steps: int, count: int
) -> Iterator[Progress]:
    """Progress of inversions, one after another, then of sampling from their results.

    Args:
        inversions: The inversions.
        generate: Function from ``x_t`` at the noisiest level of each inversion to the progress of sampling.
        steps: Steps of sampling, as far as they are known before it: memory may ask for more batches. They are counted
            on from those of the inversions.
        count: Images that are sampled.
    """
    step, noisiest = 0, []
    inverting = sum(each.steps for each in inversions)
    for each in inversions:
        x_t = each.x
        for x_t in invert(each.denoise, each.levels, each.x):
            step += 1
            yield Progress(step, inverting + steps, x_t, each.decode, 0, count, finished=False)
        noisiest.append(x_t)
    for progress in generate(noisiest):
        yield replace(progress, step=inverting + progress.step, steps=inverting + progress.steps)
