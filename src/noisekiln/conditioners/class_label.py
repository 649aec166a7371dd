"""One of a fixed number of classes."""

from collections.abc import Sequence
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.components.registry import did_you_mean
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond


class ClassLabel(Conditioner):
    """A learned vector for each class, and one for none.

    Args:
        names: The classes, in the order of their labels.
        width: Size of the vector.
    """

    reads: ClassVar[str] = "labels"

    def __init__(self, names: tuple[str, ...] = (), width: int = 64) -> None:
        super().__init__()
        self.names = self.choices = names
        self.width = width
        self.vectors = nn.Embedding(len(names) + 1, width)

    def encode(self, wanted: Sequence[str | int]) -> Tensor:
        """Labels of class names or numbers, (B,).

        Raises:
            ValueError: For a class that there is not.
        """
        return torch.tensor([self._label(wish) for wish in wanted], dtype=torch.int64)

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.full((count,), len(self.names), dtype=torch.int64)

    def forward(self, ids: Tensor) -> Cond:  # noqa: D102 (the base class says it)
        return Cond(vector=self.vectors(ids))

    def extended(self, other: Self) -> Self:
        """With the other's classes after its own; a new class begins as no class."""
        known = {name.lower() for name in self.names}
        new = tuple(name for name in other.names if name.lower() not in known)
        if not new:
            return self
        longer = type(self)(self.names + new, self.width)
        table = self.vectors.weight.detach()
        none = table[-1:].expand(len(new), -1)
        longer.vectors.load_state_dict({"weight": torch.cat([table[:-1], none, table[-1:]])})
        return longer

    def _label(self, wish: str | int) -> int:
        if wish in self.names:
            return self.names.index(str(wish))
        if isinstance(wish, str):
            folded = [name.lower() for name in self.names]
            if wish.lower() in folded:
                return folded.index(wish.lower())
            if not wish.isdecimal():
                raise ValueError(f"There is no class called {wish!r}. {did_you_mean(wish, self.names)}")
        if 0 <= int(wish) < len(self.names):
            return int(wish)
        known = ", ".join(f"{i} {name}" for i, name in enumerate(self.names))
        raise ValueError(f"There is no class number {wish}; the model was trained on {len(self.names)}: {known}.")
