"""What a backbone may be told besides the noisy image: four slots, each optional."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Cond(NamedTuple):
    """Slots that conditioners fill and backbones read; a backbone ignores the slots that it has no use for.

    Attributes:
        vector: One vector an image, (B, D): classes, pooled text, attributes.
        tokens: A sequence an image, (B, L, D): words.
        mask: Which tokens count, (B, L) bool; None means all.
        image: An image to be seen beside the noisy one, (B, C', H, W): low resolution, known pixels.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    image: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence["Cond"]) -> "Cond":
        """One condition for all the parts' images, in order; the parts fill the same slots."""
        slots = zip(*parts, strict=True)
        return Cond(*(None if slot[0] is None else torch.cat(slot) for slot in slots))


NOTHING = Cond()
