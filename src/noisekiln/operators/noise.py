"""Additive Gaussian noise."""

import math
from dataclasses import dataclass

from torch import Tensor

from noisekiln.operators.base import Operator


@dataclass(frozen=True)
class Noise(Operator):
    """The image itself, with Gaussian noise: ``A = 1``.

    Args:
        level: Standard deviation in units of [0, 1]; 0.1 is a visible grain.
    """

    level: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.level < math.inf:
            raise ValueError(f"noise(level={self.level}): this is no standard deviation. Give 0 or more; white is 1.")

    @property
    def std(self) -> float:  # noqa: D102 (the base class says it)
        return self.level

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        return images
