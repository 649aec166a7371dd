"""Masking: parts of the image are unknown."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from noisekiln.operators.base import Operator


@dataclass(frozen=True)
class Mask(Operator):
    """``A x = known * x``: unknown pixels become 0.

    Args:
        known: 1 where a pixel is known, 0 where it is not, (H, W) or (B, 1, H, W); None for a box.
        box: The unknown rectangle (left, top, right, bottom) in pixels, right and bottom excluded; used without a map.
    """

    known: Tensor | None = None
    box: tuple[int, ...] = (0, 0, 1, 1)

    def to(self, device: torch.device) -> Self:  # noqa: D102 (the base class says it)
        return self if self.known is None else replace(self, known=self.known.to(device))

    def map(self, images: Tensor) -> Tensor:
        """The map of known pixels for images of this shape, (H, W) or (B, 1, H, W).

        Raises:
            ValueError: If the map has another size than the images, or the box is not inside them.
        """
        height, width = images.shape[-2:]
        if self.known is not None:
            if self.known.shape[-2:] != (height, width):
                actual = "x".join(map(str, self.known.shape[-2:]))
                raise ValueError(
                    f"A mask of {actual} pixels cannot cover images of {height}x{width}. Give a mask of their size."
                )
            return self.known.to(images)
        left, top, right, bottom = self.box if len(self.box) == 4 else (0, 0, 0, 0)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"mask(box={self.box}) is not inside an image of {height}x{width} pixels (height x width). "
                "Give (left, top, right, bottom), counted from the upper left corner."
            )
        known = torch.ones(height, width, dtype=images.dtype, device=images.device)
        known[top:bottom, left:right] = 0
        return known

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        return self.map(images) * images
