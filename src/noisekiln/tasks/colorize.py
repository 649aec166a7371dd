"""From grey images to colour."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec
from noisekiln.tasks.base import Noise, Size, Task, signed

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in the grey of ITU-R BT.601, which PIL's "L" is too


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
        """The luma, rounded."""
        luma = pixels.float() @ torch.tensor(LUMA, device=pixels.device)
        return luma.round().to(torch.uint8).unsqueeze(-1)

    def show(self, given: Tensor, codec: Codec, size: Size, noise: Noise) -> Tensor:  # noqa: D102
        return signed(given)
