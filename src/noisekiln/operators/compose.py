"""Composition of two operators."""

import math
from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from noisekiln.operators.base import Operator
from noisekiln.operators.noise import Noise


@dataclass(frozen=True)
class Compose(Operator):
    """``A = second(first(x))``; nest it for more than two.

    The noise of both counts as if it were added at the end, which is exact unless the second one smooths the noise of
    the first.

    Args:
        first: The operator that acts first.
        second: The operator that acts on its result.
    """

    first: Operator = Noise(0.0)
    second: Operator = Noise(0.0)

    @property
    def std(self) -> float:  # noqa: D102 (the base class says it)
        return math.hypot(self.first.std, self.second.std)

    def to(self, device: torch.device) -> Self:  # noqa: D102 (the base class says it)
        return replace(self, first=self.first.to(device), second=self.second.to(device))

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        return self.second(self.first(images))
