"""Motion blur."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.operators.base import Operator, convolve


@dataclass(frozen=True)
class MotionBlur(Operator):
    """Convolution with a straight line; the image is mirrored at its borders.

    Args:
        length: Length of the line in pixels, 1 to 1,000.
        angle: Direction of the line in degrees, anticlockwise: 0 is along a row, 90 along a column, and 45 from the
            lower left to the upper right.
    """

    length: float = 5.0
    angle: float = 0.0

    def __post_init__(self) -> None:
        if not 1 <= self.length <= 1000:
            raise ValueError(
                f"motion_blur(length={self.length:g}): no line has such a length in pixels. Give 1 (no blur) to 1000."
            )
        if not math.isfinite(self.angle):
            raise ValueError(
                f"motion_blur(angle={self.angle}): this is no angle. Give a number of degrees, such as 30."
            )

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        radius = math.ceil(self.length / 2)
        line = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        row, column = torch.meshgrid(line, line, indexing="ij")
        turn = math.radians(self.angle)
        along = column * math.cos(turn) - row * math.sin(turn)
        across = column * math.sin(turn) + row * math.cos(turn)
        # A pixel's weight is the share of it that the line covers, to first order in the distance.
        weights = (1 - across.abs()).clamp(0) * ((self.length + 1) / 2 - along.abs()).clamp(0, 1)
        return convolve(images, weights / weights.sum())
