"""From one kind of image to another, learned from pairs."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec
from noisekiln.levels import NoiseSource
from noisekiln.tasks.base import Size, Task, signed


@dataclass(frozen=True)
class Translate(Task):
    """The partner of the picture is given: a sketch, another season, another modality (Isola et al. 2017, the setting).

    It is trained on a folder with two, `from` and `to`, in which partners have the same name. Partners are always read
    in colour, whatever they become.
    """

    paired: ClassVar[bool] = True

    def reads(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 3

    def channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return 3

    def observe(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """The partners as they are; grey ones as red, green and blue."""
        return pixels.expand(-1, -1, -1, 3)

    def show(self, given: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        return signed(given)
