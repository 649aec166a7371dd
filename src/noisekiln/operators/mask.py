"""Parts of the image are missing."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.operators.base import Operator


@dataclass(frozen=True)
class Mask(Operator):
    """``A x = known * x``: unknown pixels are seen as 0.

    Args:
        known: 1 where a pixel is known, 0 where it is not, (H, W) or (B, 1, H, W); None for a box.
        box: The missing rectangle (left, top, right, bottom) in pixels, right and bottom not in it, where no map is
            given.
    """

    known: Tensor | None = None
    box: tuple[int, ...] = (0, 0, 1, 1)

    def map(self, images: Tensor) -> Tensor:
        """What is known of images of this shape, (H, W) or (B, 1, H, W).

        Raises:
            ValueError: If the map is of another size than the images, or the box not in them.
        """
        height, width = images.shape[-2:]
        if self.known is not None:
            if self.known.shape[-2:] != (height, width):
                given = "x".join(map(str, self.known.shape[-2:]))
                raise ValueError(
                    f"A mask of {given} pixels cannot cover images of {height}x{width}. Give one as large."
                )
            return self.known.to(images)
        left, top, right, bottom = self.box if len(self.box) == 4 else (0, 0, 0, 0)
        if not (0 <= left < right <= width and 0 <= top < bottom <= height):
            raise ValueError(
                f"mask(box={self.box}) is not a box in an image of {width} pixels by {height}. "
                "Give (left, top, right, bottom), counted from the upper left corner."
            )
        known = torch.ones(height, width, dtype=images.dtype, device=images.device)
        known[top:bottom, left:right] = 0
        return known

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        return self.map(images) * images
