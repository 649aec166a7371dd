"""How a model is sampled, and how far that has come."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.codecs.base import Codec


@dataclass(frozen=True)
class Sampling:
    """How a model is best sampled; saved with it, and overridden by whoever asks for something else.

    Attributes:
        sampler: A spec, such as "dpmpp_2m" or "ddim(eta=1)".
        steps: Number of steps.
        guidance: A scale of classifier-free guidance, or the spec of another guidance.
        schedule: Along which levels.
    """

    sampler: str = "dpmpp_2m"
    steps: int = 20
    guidance: str | float = 1.0
    schedule: str = "karras"


@dataclass(frozen=True)
class Progress:
    """Where sampling stands after a step.

    Attributes:
        step: Steps done, 1 ... steps.
        steps: Steps in all.
        x: The images so far, still noisy unless it was the last step, (B, C, H, W).
        codec: What decodes them.
    """

    step: int
    steps: int
    x: Tensor
    codec: Codec

    def images(self) -> Tensor:
        """The images as they are now, (B, H, W, C) uint8."""
        return self.codec.decode(self.x)
