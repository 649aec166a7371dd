"""The result of a reader: images not yet decoded or fitted, with labels, captions and columns as they were found."""

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


@dataclass(frozen=True)
class Item:
    """One image that is not decoded yet: its name, and how to open its bytes (or the decoded image that it is)."""

    name: str
    open: Callable[[], BinaryIO | Image.Image]


def file_item(name: str, path: Path) -> Item:
    """An image in a file of its own."""
    return Item(name, partial(_open, path))


@dataclass(frozen=True)
class Part:
    """The train or the test part: an array (N, H, W[, C]) of numbers, or N items; labels are names or numbers.

    columns: further columns by name, (N,) each.
    """

    images: NDArray[Any] | tuple[Item, ...]
    labels: Sequence[Any] | NDArray[Any] | None = None
    captions: Sequence[str] | None = None
    columns: Columns = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """A data set as its reader understood it.

    class_names: names of the labels 0, 1, ..., if known; labels_from: where labels were found, for a note.
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


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def natural(name: str) -> list[tuple[int, str]]:
    """A sorting key by which 2.png comes before 10.png, on every system alike."""
    return [(int(piece), "") if piece.isdecimal() else (-1, piece) for piece in re.split(r"(\d+)", name)]
