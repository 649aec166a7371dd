"""Sampling settings that are saved with a model, and the state of sampling after a step."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

Decode = Callable[[Tensor], Tensor]
"""From x, (B, C', H', W'), to images, (B, H, W, C) uint8."""


@dataclass(frozen=True)
class Sampling:
    """How a model is sampled by default; saved with it, and overridden by what a call requests.

    Attributes:
        sampler: Spec of the sampler, such as "dpmpp_2m" or "ddim(eta=1)".
        steps: Number of steps.
        guidance: Scale of classifier-free guidance, or the spec of another guidance.
        schedule: Spec of the schedule that the levels are taken from.
    """

    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: str | float = 1.0
    schedule: str = "karras"


@dataclass(frozen=True)
class Progress:
    """Where a request stands after a step: the images of one batch, as they are now.

    Attributes:
        step: Steps done in the whole request (all batches and all stages), 1 ... steps.
        steps: Steps of the whole request.
        x: The batch as the model has it, (B, C', H', W'); noisy unless `finished`.
        decode: From x to images.
        start: Number of the batch's first image in the request.
        count: Images in the whole request.
        finished: Whether the images of this batch are done.
    """

    step: int
    steps: int
    x: Tensor
    decode: Decode
    start: int
    count: int
    finished: bool

    def images(self) -> Tensor:
        """The images of the batch as they are now, (B, H, W, C) uint8."""
        return self.decode(self.x)
