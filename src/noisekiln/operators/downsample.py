"""Average pooling: the mean of each square of pixels."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from noisekiln.operators.base import Operator


@dataclass(frozen=True)
class Downsample(Operator):
    """``A x``: the mean of each square of factor x factor pixels, so that ``A A^T = 1/factor^2``.

    Args:
        factor: Side of the squares in pixels.
    """

    factor: int = 4

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        check_factor(self.factor, images)
        return F.avg_pool2d(images, self.factor)


def check_factor(factor: int, images: Tensor) -> None:
    """Raise ValueError unless images divide into squares of `factor` by `factor` pixels."""
    height, width = images.shape[-2:]
    if factor < 1 or height % factor or width % factor:
        raise ValueError(
            f"Images of {height}x{width} pixels do not divide into squares of {factor}. "
            "Give a factor that divides both sides."
        )
