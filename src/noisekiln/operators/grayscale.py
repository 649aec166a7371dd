"""Conversion to greyscale."""

from dataclasses import dataclass
from functools import reduce
from operator import add

from torch import Tensor

from noisekiln.operators.base import Operator


@dataclass(frozen=True)
class Grayscale(Operator):
    """``A x = sum_c weight_c x_c``, one channel; of images that have another number of channels, their mean.

    Args:
        weights: Weights of red, green and blue; the default is ITU-R BT.601's, as in Pillow.
    """

    weights: tuple[float, ...] = (0.299, 0.587, 0.114)

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        if images.shape[1] != len(self.weights):
            return images.mean(1, keepdim=True)
        weighted = (weight * images[:, i : i + 1] for i, weight in enumerate(self.weights))
        return reduce(add, weighted)
