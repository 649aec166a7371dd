"""Image-to-image translation: from one kind of image to another, learned from pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec, Size
from noisekiln.levels import NoiseSource
from noisekiln.tasks.base import Task, signed


@dataclass(frozen=True)
class Translate(Task):
    """The source is the image's partner: a sketch, another season, another modality (the setting of Isola et al. 2017).

    Training data is a folder that holds two, `from` and `to`, in which partners have the same name. Partners are
    always read in colour, also where the images are grey.
    """

    paired: ClassVar[bool] = True

    def source_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 3

    def condition_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 3

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The partners as they are; grey ones as red, green and blue."""
        return images.expand(-1, -1, -1, 3)

    def condition_image(self, source: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        return signed(source, codec, size)
