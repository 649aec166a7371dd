"""The conditions that an image is trained with: one of its captions, or a part of one, drawn each time."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from noisekiln.conditioners.base import Conditioner


@dataclass(frozen=True)
class Choices:
    """Some conditions for each image, by their index.

    Attributes:
        table: Indices of each image's conditions, (N, most of an image).
        counts: How many each image has, (N,): the first ones of its row.
    """

    table: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> "Choices":
        """The choices from a list for each image, which is not empty."""
        counts = np.array([len(row) for row in rows], np.int64)
        table = np.zeros((len(rows), counts.max(initial=1)), np.int64)
        for place, row in enumerate(rows):
            table[place, : len(row)] = row
        return cls(table, counts)

    def pick(self, rows: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.int64]:
        """One of each image's conditions.

        Args:
            rows: Indices of the images, (B,).
            uniform: Random numbers of [0, 1), (B,).
        """
        picked: NDArray[np.int64] = self.table[rows, (uniform * self.counts[rows]).astype(np.int64)]
        return picked


@dataclass(frozen=True)
class ConditionChoices:
    """All conditions that occur, and which of them each image has.

    Attributes:
        values: The conditions; None is the empty one.
        whole: Those of each image.
        parts: Conditions that name a part of them; None if there are none.
    """

    values: list[Any]
    whole: Choices
    parts: Choices | None

    @classmethod
    def of(
        cls, conditioner: Conditioner, conditions: Sequence[Sequence[Any | None]], *, parts: bool
    ) -> "ConditionChoices":
        """The choices for images. Conditions have to be hashable where an image has several, or parts.

        Args:
            conditioner: Makes the parts.
            conditions: The conditions of each image, one or more.
            parts: Whether parts are used.
        """
        shorter = [_parts_of(conditioner, own) if parts else [] for own in conditions]
        if not any(shorter) and all(len(own) == 1 for own in conditions):
            return cls(
                [value for (value,) in conditions], Choices.of([[place] for place in range(len(conditions))]), None
            )
        values = list(dict.fromkeys(chain.from_iterable((*conditions, *shorter))))
        places = {value: place for place, value in enumerate(values)}
        whole = Choices.of([[places[value] for value in own] for own in conditions])
        if not any(shorter):
            return cls(values, whole, None)
        of_parts = [[places[value] for value in own or all_] for own, all_ in zip(shorter, conditions, strict=True)]
        return cls(values, whole, Choices.of(of_parts))

    def draw(self, rows: NDArray[np.int64], share_of_parts: float, generator: torch.Generator) -> NDArray[np.int64]:
        """The index of a condition for each of some images.

        Args:
            rows: Indices of the images, (B,).
            share_of_parts: Share of the images that get a part of a condition.
            generator: Source of randomness; not used if each image has one condition, and no parts.
        """
        if self.parts is None and self.whole.table.shape[1] == 1:
            only: NDArray[np.int64] = self.whole.table[rows, 0]
            return only
        which, part = torch.rand(2, len(rows), generator=generator, dtype=torch.float64).numpy()
        whole = self.whole.pick(rows, which)
        if self.parts is not None:
            whole[part < share_of_parts] = self.parts.pick(rows, which)[part < share_of_parts]
        return whole


def _parts_of(conditioner: Conditioner, conditions: Sequence[Any | None]) -> list[Any]:
    """Parts of an image's conditions; equal conditions have equal parts, whichever image they are of."""
    return [part for value in conditions if value is not None for part in conditioner.parts(value, str(value))]
