"""Class labels: a learned vector for each of a fixed number of classes."""

import operator
from collections.abc import Sequence
from typing import Any, ClassVar, Self, SupportsIndex

import torch
from torch import Tensor, nn

from noisekiln.components.registry import did_you_mean
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond, CondSizes
from noisekiln.data import DataSet, Split
from noisekiln.data.image_names import same_spelling
from noisekiln.errors import counted, listed, shorten


class ClassLabel(Conditioner):
    """A learned vector for each class, and one for no class.

    Args:
        names: The classes, in the order of their labels.
        width: Size of the vector.
    """

    kind: ClassVar[str] = "class"
    plural: ClassVar[str] = "classes"
    needs: ClassVar[str] = "classes (a sub-folder for each, or labels in a metadata.csv)"
    priority: ClassVar[int | None] = 1

    def __init__(self, names: tuple[str, ...] = (), width: int = 64) -> None:
        super().__init__()
        self.names = self.choices = names
        self.width = width
        self.vectors = nn.Embedding(len(names) + 1, width)

    @property
    def sizes(self) -> CondSizes:  # noqa: D102 (the base class says it)
        return CondSizes(vector=self.width)

    def fit(self, data: DataSet) -> Self | None:
        """An encoder of the classes of the data; of its own ones if it has any.

        Raises:
            ValueError: If its own ones lack a class of the data.
        """
        if data.train.labels is None:
            return None
        known = {same_spelling(name) for name in self.names}
        missing = [name for name in data.class_names if known and same_spelling(name) not in known]
        if missing:
            raise ValueError(
                f"class_label(names=({listed(self.names)})) lacks classes of {data.name}: {listed(missing)}. "
                "Add them, or omit `names`: then the classes of the data are used."
            )
        return type(self)(self.names or data.class_names, self.width)

    def values(self, images: Split, class_names: tuple[str, ...]) -> list[str] | None:  # noqa: D102
        return None if images.labels is None else [class_names[label] for label in images.labels.tolist()]

    def encode(self, values: Sequence[str | int]) -> Tensor:
        """Labels of class names or numbers, (B,).

        Raises:
            ValueError: For a class that does not exist.
        """
        for value in values:
            _check_is_one(value, len(self.names))
        known = {value: self._label(value) for value in dict.fromkeys(values)}
        return torch.tensor([known[value] for value in values], dtype=torch.int64)

    def nothing(self, count: int) -> Tensor:  # noqa: D102 (the base class says it)
        return torch.full((count,), len(self.names), dtype=torch.int64)

    def forward(self, ids: Tensor) -> Cond:  # noqa: D102 (the base class says it)
        return Cond(vector=self.vectors(ids))

    def describe(self, value: str | int) -> dict[str, Any]:  # noqa: D102 (the base class says it)
        label = self._label(value)
        return {"label": label, "class": self.names[label]}

    def preview(  # noqa: D102 (the base class says it)
        self, images: Split | None, class_names: tuple[str, ...], count: int
    ) -> list[str]:
        names = class_names or self.names
        return [names[i % len(names)] for i in range(count)]

    def extended(self, other: Self) -> Self:
        """This conditioner with the other's classes after its own; a new class starts with the vector of no class."""
        known = {same_spelling(name) for name in self.names}
        new = tuple(name for name in other.names if same_spelling(name) not in known)
        if not new:
            return self
        longer = type(self)(self.names + new, self.width)
        table = self.vectors.weight.detach()
        none = table[-1:].expand(len(new), -1)
        longer.vectors.load_state_dict({"weight": torch.cat([table[:-1], none, table[-1:]])})
        return longer

    def table(self) -> tuple[str, tuple[str, ...]]:  # noqa: D102 (the base class says it)
        return "vectors.weight", (*self.names, "")

    def _label(self, value: str | int) -> int:
        if value in self.names:
            return self.names.index(str(value))
        if isinstance(value, str):
            folded = [same_spelling(name) for name in self.names]
            if same_spelling(value) in folded:
                return folded.index(same_spelling(value))
            if not value.isdecimal():
                raise ValueError(f"There is no class called {value!r}. {did_you_mean(value, self.names, 'classes')}")
        _check_is_one(value, len(self.names))
        number = int(value) if isinstance(value, str) else operator.index(value)
        if 0 <= number < len(self.names):
            return number
        known = listed([name if name == str(i) else f"{i} {name}" for i, name in enumerate(self.names)])
        count = counted(len(self.names), "class", "classes")
        raise ValueError(f"There is no class number {value}; the model has {count}: {known}. Use one of these.")


def _check_is_one(value: object, classes: int) -> None:
    """Raise ValueError for what can be no class, such as a list, or 2.5, which is between two of them."""
    if not isinstance(value, str | SupportsIndex):
        raise ValueError(
            f"{shorten(repr(value), 100)} is neither the name nor the number of a class. Give a name, or a whole "
            f"number from 0 to {classes - 1}."
        )
