"""Inputs of a backbone in addition to the noisy image and its noise level: four slots, each optional."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class Cond(NamedTuple):
    """Slots that conditioners and tasks fill and backbones read; a backbone ignores the slots that it does not use.

    Attributes:
        vector: One vector for each image, (B, D): classes, pooled text, attributes.
        tokens: A sequence of vectors for each image, (B, L, D): words.
        mask: True for the tokens that are used, (B, L) bool; None for all.
        image: A conditioning image, concatenated to the noisy one, (B, C', H, W): low resolution, known pixels.
    """

    vector: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    image: Tensor | None = None

    @staticmethod
    def cat(parts: Sequence["Cond"]) -> "Cond":
        """One condition for the images of all parts, in order; the parts fill the same slots."""
        slots = zip(*parts, strict=True)
        return Cond(*(None if slot[0] is None else torch.cat(slot) for slot in slots))

    def with_image(self, image: Tensor | None) -> "Cond":
        """These conditions with the condition image of a task; as they are if it is None."""
        return self if image is None else self._replace(image=image)

    def __repr__(self) -> str:
        """The shapes of the slots that are filled."""
        slots = zip(self._fields, self, strict=True)
        return f"Cond({', '.join(f'{name}={tuple(slot.shape)}' for name, slot in slots if slot is not None)})"


class CondSizes(NamedTuple):
    """The sizes of a `Cond`'s slots, 0 for a slot that is never filled; a backbone is built for them.

    Attributes:
        vector: D of ``Cond.vector``.
        tokens: D of ``Cond.tokens``.
        image: Channels of ``Cond.image``.
    """

    vector: int = 0
    tokens: int = 0
    image: int = 0


NOTHING = Cond()
