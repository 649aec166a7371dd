"""A conditioner of two numeric columns of the metadata: `left` and `top`."""

from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn

from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split


class Position(Conditioner):
    """Two numbers through a linear layer; unknown ones are learned.

    Args:
        width: Size of the vector.
    """

    kind: ClassVar[str] = "position"
    needs: ClassVar[str] = "the numeric columns left and top"

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        self.width = width
        self.embed = nn.Linear(2, width)
        self.unknown = nn.Parameter(torch.zeros(width))

    @property
    def sizes(self) -> CondSizes:
        return CondSizes(vector=self.width)

    def fit(self, data: DataSet) -> Self | None:
        return type(self)(self.width) if {"left", "top"} <= set(data.train.columns) else None

    def values(self, images: Split, class_names: tuple[str, ...]) -> list[tuple[float, float] | None] | None:
        if not {"left", "top"} <= set(images.columns):
            return None
        pairs = np.stack([images.columns["left"], images.columns["top"]], axis=1)
        return [None if np.isnan(pair).any() else (float(pair[0]), float(pair[1])) for pair in pairs]

    def encode(self, values: Any) -> Tensor:
        return torch.tensor(values, dtype=torch.float32).view(len(values), 2)

    def nothing(self, count: int) -> Tensor:
        return torch.full((count, 2), float("nan"))

    def forward(self, ids: Tensor) -> Cond:
        known = ~ids.isnan().any(1, keepdim=True)
        return Cond(vector=torch.where(known, self.embed(ids.nan_to_num()), self.unknown))

    def parse(self, text: str) -> tuple[float, float]:
        numbers = text.split(",")
        if len(numbers) != 2:
            raise ValueError(f"{text!r} is not a position. Give left,top such as 0.2,0.7.")
        return float(numbers[0]), float(numbers[1])

    def describe(self, value: tuple[float, float]) -> dict[str, Any]:
        return {"left": value[0], "top": value[1]}
