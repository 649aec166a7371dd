"""From grey images to colour."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec
from noisekiln.levels import NoiseSource
from noisekiln.operators.grayscale import Grayscale
from noisekiln.tasks.base import Size, Task, signed


@dataclass(frozen=True)
class Colorize(Task):
    """The luma of the picture is given; it is shown as it is."""

    def reads(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        if channels != 3:
            raise ValueError(
                f"colorize makes colour of grey, and these images have {channels} channels, not red, green and blue. "
                "Train on images in colour."
            )
        return 1

    def channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 1

    def observe(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """The luma of `grayscale`, which PIL's "L" is too, rounded."""
        luma: Tensor = Grayscale()(pixels.permute(0, 3, 1, 2).float())
        return luma.round().to(torch.uint8).permute(0, 2, 3, 1)

    def show(self, given: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        return signed(given)
