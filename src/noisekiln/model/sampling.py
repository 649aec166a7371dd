"""Sampling settings that are saved with a model, and the state of sampling after a step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from noisekiln.estimate import Denoise
from noisekiln.guidance.base import Guidance
from noisekiln.images import Images
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule

BATCH_SIZE = 64
"""Images sampled at once, at most, by default; it changes only speed and memory."""

WrapDenoiser = Callable[[Denoise], Denoise]
"""Function from the conditioned and guided denoiser to the one that is sampled."""

Decode = Callable[[Tensor], Tensor]
"""Function from x, (B, C', H', W'), to images, (B, H, W, C) uint8."""


@dataclass(frozen=True)
class Sampling:
    """Default settings of sampling, saved with a model; the arguments of a call override them.

    Attributes:
        sampler: Sampler or its spec, such as "dpmpp_2m" or "ddim(eta=1)".
        steps: Number of steps.
        guidance: Scale of classifier-free guidance, or spec of another guidance method.
        schedule: Schedule of the noise levels, or its spec.
    """

    sampler: str | Sampler = "dpmpp_2m"
    steps: int = 20
    guidance: str | float = 1.0
    schedule: str | Schedule = "karras"


class UsedSampling(NamedTuple):
    """Settings that a model was sampled with: those of a call, and the model's own for the others."""

    sampler: Sampler
    steps: int
    guidance: Guidance
    schedule: Schedule


@dataclass(frozen=True)
class Progress:
    """State of a request after a step: the images of one batch.

    Attributes:
        step: Steps done in the whole request (all batches and all stages), 1 ... steps.
        steps: Steps of the whole request.
        x: The batch in the model's units, (B, C', H', W'); noisy unless `finished`.
        decode: Function from x to images.
        start: Index of the batch's first image in the request.
        count: Images in the whole request.
        finished: Whether the images of this batch are done.
        used: Settings of sampling; None where several models make the images, each with its own settings.
        denoised: The model's estimate of the clean batch in this step, (B, C', H', W'); None if it makes none.
    """

    step: int
    steps: int
    x: Tensor
    decode: Decode
    start: int
    count: int
    finished: bool
    used: UsedSampling | None = None
    denoised: Tensor | None = None

    def images(self) -> Images:
        """The images of the batch after this step, (B, H, W, C) uint8."""
        return Images.of(self.decode(self.x))

    def preview(self, most: int | None = None) -> Images:
        """What the images of the batch will look like, as the model estimates it, (B, H, W, C) uint8.

        Args:
            most: Number of images, the first of the batch, at most; all by default.
        """
        x = self.x if self.finished or self.denoised is None else self.denoised
        return Images.of(self.decode(x[:most]))
