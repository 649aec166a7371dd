"""The result of a reader: images before decoding and scaling, with their labels, captions and columns."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.columns import Columns
from noisekiln.data.dataset import Skipped
from noisekiln.data.names import printable_name

MAX_DIGITS = 4000  # of a number in a name: Python refuses to read one of more than 4,300


@dataclass(frozen=True)
class Item:
    """One image before decoding: its name, and a function that opens its bytes (or returns a decoded image)."""

    name: str
    open: Callable[[], BinaryIO | Image.Image]


def file_item(name: str, path: Path) -> Item:
    """An image in a file of its own."""
    return Item(printable_name(name), partial(_open_file, path))


@dataclass(frozen=True)
class Part:
    """The train or the test part.

    Attributes:
        images: Array (N, H, W[, C]) of numbers, or N items.
        labels: N names or numbers, or None.
        captions: N texts, or None.
        columns: Further columns by name, (N,) each.
    """

    images: NDArray[Any] | tuple[Item, ...]
    labels: Sequence[Any] | NDArray[Any] | None = None
    captions: Sequence[str] | None = None
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A data set as its reader interprets it.

    Attributes:
        name: Name of the data.
        train: Train part.
        test: Test part, or None.
        class_names: Names of the labels 0, 1, ..., if known.
        labels_from: Origin of the labels, for a note.
        notes: Notes on the data, one sentence each.
        skipped: Files that cannot be used.
    """

    name: str
    train: Part
    test: Part | None = None
    class_names: tuple[str, ...] = ()
    labels_from: str = ""
    notes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()

    @property
    def parts(self) -> tuple[Part, ...]:
        """Train, and test if there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)


def _open_file(path: Path) -> BinaryIO:
    return path.open("rb")


def natural_sort_key(name: str) -> list[tuple[int, str]]:
    """Sort key by which 2.png is before 10.png, the same on every system."""
    pieces = re.split(r"(\d+)", name)
    return [(int(piece[:MAX_DIGITS]), "") if piece.isdecimal() else (-1, piece) for piece in pieces]
