"""Gaussian blur."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.operators.base import Operator, convolve


@dataclass(frozen=True)
class Blur(Operator):
    """Convolution with a Gaussian; the image is mirrored at its borders.

    Args:
        sigma: Standard deviation of the Gaussian in pixels, above 0 and at most 1,000.
    """

    sigma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.sigma <= 1000:
            raise ValueError(
                f"blur(sigma={self.sigma:g}): no Gaussian has such a width in pixels. "
                "Give a number above 0, such as 1, and at most 1000."
            )

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        radius = math.ceil(3 * self.sigma)
        line = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
        weights = (-0.5 * (line / self.sigma) ** 2).exp()
        weights = weights / weights.sum()
        return convolve(convolve(images, weights[None]), weights[:, None])
