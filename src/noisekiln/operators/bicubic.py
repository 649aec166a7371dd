"""Bicubic downsampling, as image editors scale."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from noisekiln.operators.base import Operator
from noisekiln.operators.downsample import check_factor


@dataclass(frozen=True)
class Bicubic(Operator):
    """Keys' cubic filter, widened by the factor so that nothing aliases: Pillow's BICUBIC.

    Args:
        factor: Downsampling factor per side.
    """

    factor: int = 4

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        check_factor(self.factor, images)
        height, width = images.shape[-2:]
        size = (height // self.factor, width // self.factor)
        return F.interpolate(images, size, mode="bicubic", antialias=True, align_corners=False)
