"""Colorization: from grey images to images in colour."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec, Size
from noisekiln.errors import counted
from noisekiln.levels import NoiseSource
from noisekiln.operators.grayscale import Grayscale
from noisekiln.tasks.base import Task, signed


@dataclass(frozen=True)
class Colorize(Task):
    """The source is the luma of the image, given to the network unchanged."""

    def source_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        if channels != 3:
            raise ValueError(
                f"`task=colorize` turns grey into colour, and these images have "
                f"{counted(channels, 'channel')}, not red, green and blue. Train on images in colour."
            )
        return 1

    def condition_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 1

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The luma of `grayscale`, the same as PIL's "L", rounded."""
        luma: Tensor = Grayscale()(images.permute(0, 3, 1, 2).float())
        return luma.round().to(torch.uint8).permute(0, 2, 3, 1)

    def condition_image(self, source: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        return signed(source, codec, size)
