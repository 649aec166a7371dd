"""The loaded data: a DataSet of two splits."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.columns import Columns, select_columns
from noisekiln.errors import counted

SHOWN_REASONS = 3  # reasons that a note on skipped files lists


@dataclass(frozen=True)
class Split:
    """One part of a data set, in memory or memory-mapped.

    Attributes:
        pixels: (N, H, W, C) uint8, C = 1 (grey) or 3 (red, green, blue).
        labels: (N,) int64 of 0..classes-1, or None.
        captions: N texts, "" for a missing one; or None. Each line of a text is a caption of the image.
        files: N file names, or None.
        partners: The other image of each pair, (N, H, W, 1 or 3) uint8, for data of pairs; else None.
        columns: Further columns of the metadata by name: (N,) float64 (nan for an empty cell) or (N,) texts ("" for an
            empty one).
    """

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64] | None = None
    captions: tuple[str, ...] | None = None
    files: tuple[str, ...] | None = None
    partners: NDArray[np.uint8] | None = None
    columns: Columns = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels)

    def take(self, rows: NDArray[np.int64]) -> "Split":
        """The images with these indices, in this order, with their labels, captions and columns."""
        numbers = rows.tolist()
        return Split(
            self.pixels[rows],
            None if self.labels is None else self.labels[rows],
            None if self.captions is None else tuple(self.captions[i] for i in numbers),
            None if self.files is None else tuple(self.files[i] for i in numbers),
            None if self.partners is None else self.partners[rows],
            select_columns(self.columns, rows),
        )


@dataclass(frozen=True)
class Skipped:
    """A file that could not be used, and the reason in words."""

    file: str
    why: str


class Altered(str):
    """A note on what was left out, converted or replaced: unlike other notes, it is also a Python warning."""

    __slots__ = ()


def skipped_note(skipped: Sequence[Skipped]) -> Altered:
    """How many files were skipped, for which reasons, and the first of each: one sentence."""
    first = {one.why: one.file for one in reversed(skipped)}
    reasons = Counter(one.why for one in skipped).most_common()
    shown = [
        f"{first[why]}: {why}" if count == 1 else f"{count:,}, the first {first[why]}: {why}"
        for why, count in reasons[:SHOWN_REASONS]
    ]
    rest = sum(count for _, count in reasons[SHOWN_REASONS:])
    more = f"; and {rest:,} more" if rest else ""
    return Altered(f"{counted(len(skipped), 'file was', 'files were')} skipped ({'; '.join(shown)}{more}).")


@dataclass(frozen=True)
class DataSet:
    """A data set, ready to train on.

    Attributes:
        name: Name of the data, for runs and messages.
        train: Images to train on.
        held_out: Images that are not trained on, or None.
        class_names: Name of each label; empty for data without labels.
        notes: Facts about how the data were read, one sentence each.
        skipped: Files that could not be used.
        fingerprint: 16 hex digits that depend on pixels, labels, captions and columns.
    """

    name: str
    train: Split
    held_out: Split | None
    class_names: tuple[str, ...]
    notes: tuple[str, ...]
    skipped: tuple[Skipped, ...]
    fingerprint: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of every image, in pixels."""
        return self.train.pixels.shape[1], self.train.pixels.shape[2]

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for colour."""
        return int(self.train.pixels.shape[3])

    @property
    def altered(self) -> tuple[Altered, ...]:
        """The notes on what was left out, converted or replaced."""
        return tuple(note for note in self.notes if isinstance(note, Altered))


def data_fingerprint(parts: tuple[Split | None, ...], class_names: tuple[str, ...]) -> str:
    """16 hex digits that change when a pixel, partner, label, caption, column, class name or the split changes."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(repr(class_names).encode())
    for part in parts:
        if part is None:
            digest.update(b"none")
            continue
        digest.update(repr((part.pixels.shape, part.captions, part.labels is not None)).encode())
        for chunk in _chunks(part.pixels):
            digest.update(chunk)
        if part.partners is not None:
            digest.update(repr(part.partners.shape).encode())
            for chunk in _chunks(part.partners):
                digest.update(chunk)
        if part.labels is not None:
            digest.update(part.labels.astype("<i8").tobytes())
        if part.columns:
            digest.update(repr([(name, part.columns[name].tolist()) for name in sorted(part.columns)]).encode())
    return digest.hexdigest()


def _chunks(pixels: NDArray[np.uint8]) -> Iterator[bytes]:
    """The pixels as bytes, some 16 MiB at a time: a memory-mapped set must not be read into memory as a whole."""
    step = max(1, (16 << 20) // max(1, pixels[:1].nbytes))
    for start in range(0, len(pixels), step):
        yield pixels[start : start + step].tobytes()
