"""Ids of all conditions of a data set in memory: of those that are made of words, each word is stored once."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.conditioners.base import Conditioner

ENCODED_AT_ONCE = 4096  # conditions


class StoredIds:
    """Ids of conditions, read by their places: ``ids[places]`` are those of `Conditioner.encode_all`.

    If they are of words, (M, L, C), a word of a condition takes the 4 bytes of its number in a table of all words,
    and not the C numbers of its row.

    Args:
        conditioner: Its `encode_all` is called here.
        values: The conditions, M; None is the empty one.

    Raises:
        ValueError: If the conditioner cannot read them.
    """

    def __init__(self, conditioner: Conditioner, values: Sequence[Any]) -> None:
        self.words: Tensor | None = None  # the words of each condition, (M, L) int32
        if not conditioner.ids_are_of_words or not values:
            self.table = conditioner.encode_all(values)
            return
        numbers: dict[bytes, int] = {}  # of a word, by the bytes of its row
        tables, words = [], []
        for start in range(0, len(values), ENCODED_AT_ONCE):
            ids = conditioner.encode_all(values[start : start + ENCODED_AT_ONCE])
            rows = ids.flatten(0, 1).numpy()
            before = len(numbers)
            found = np.array([numbers.setdefault(row, len(numbers)) for row in _bytes_of_rows(rows)], np.int32)
            new, first = np.unique(found, return_index=True)
            tables.append(rows[first[new >= before]])
            words.append(found.reshape(len(ids), -1))
        self.table = torch.from_numpy(np.concatenate(tables))
        self.words = torch.from_numpy(np.concatenate(words))

    def __getitem__(self, places: Tensor) -> Tensor:
        """Ids of the conditions at some places, (B, ...) for (B,)."""
        return self.table[places if self.words is None else self.words[places]]


def _bytes_of_rows(rows: NDArray[Any]) -> list[bytes]:
    rows = np.ascontiguousarray(rows)
    listed: list[bytes] = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0].tolist()
    return listed
