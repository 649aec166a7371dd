"""Labels as whole numbers from 0 with class names, and a check of captions."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.dataset import Altered
from noisekiln.data.encoding import decode_array
from noisekiln.data.image_names import same_spelling
from noisekiln.data.source import Source, natural_sort_key
from noisekiln.errors import DataError, counted

Labels = tuple[NDArray[np.int64] | None, ...]


def normalise_labels(source: Source) -> tuple[Labels, tuple[str, ...]]:
    """Every part's labels as (N,) int64 of 0..classes-1, and the class names; (None, ...) and () without labels.

    Names that differ only in the encoding of their accents (NFC or NFD) or in spaces around them are one class.

    Raises:
        DataError: A part has more or fewer labels than images, only one part has labels, they are not one name or
            whole number per image, or there are too few class names for them.
    """
    found = [part.labels for part in source.parts]
    if all(labels is None for labels in found):
        return tuple(None for _ in found), ()
    columns = [_column(source.name, labels, len(part.images)) for labels, part in zip(found, source.parts, strict=True)]
    if all(column.dtype.kind in "iu" for column in columns):
        return _numbered(source, columns)
    words = [[unicodedata.normalize("NFC", str(word)).strip() for word in column.tolist()] for column in columns]
    names = sorted({word for column in words for word in column}, key=natural_sort_key)
    rank = {name: number for number, name in enumerate(names)}
    return tuple(np.array([rank[word] for word in column], np.int64) for column in words), tuple(names)


def about_similar_names(class_names: Sequence[str]) -> list[str]:
    """A note on classes whose names differ in case only, as in tables that are typed by hand; none without such."""
    groups: dict[str, list[str]] = {}
    for name in class_names:
        groups.setdefault(same_spelling(name), []).append(name)
    similar = [" and ".join(names) for names in groups.values() if len(names) > 1]
    return [f"Different classes by case only: {'; '.join(similar[:5])}."] if similar else []


def check_captions(source: Source) -> Source:
    """The source, without its captions if all of them are empty, which a note then says.

    Raises:
        DataError: If a part has more or fewer captions than images.
    """
    count = 0
    for part in source.parts:
        if part.captions is not None and len(part.captions) != len(part.images):
            images, captions = counted(len(part.images), "image"), counted(len(part.captions), "caption")
            raise DataError(
                source.name,
                f"there are {images} but {captions}, so they cannot be paired",
                "Give one caption per image, in the same order (in one text: one per line)",
            )
        count += len(part.captions or ())
    if not count or any(caption.strip() for part in source.parts for caption in part.captions or ()):
        return source
    note = Altered(f"{counted(count, 'caption is', 'captions are')} empty, so the images have none.")
    train, test = replace(source.train, captions=None), source.test and replace(source.test, captions=None)
    return replace(source, train=train, test=test, notes=(*source.notes, note))


def _column(name: str, labels: Sequence[Any] | NDArray[Any] | None, count: int) -> NDArray[Any]:
    """One part's labels as (N,) integers or texts."""
    if labels is None:
        raise DataError(
            name, "one of its two parts has labels and the other has none", "Give labels for both, or for neither"
        )
    column = np.asarray(labels)
    if column.ndim == 2 and column.shape[1] == 1:
        column = column[:, 0]  # CIFAR's (N, 1)
    if column.ndim and len(column) != count:
        raise DataError(
            name,
            f"there are {counted(count, 'image')} but {counted(len(column), 'label')}, so they cannot be paired",
            "Give one label per image, in the same order",
        )
    if column.dtype.kind == "f" and np.all(column == np.floor(column)):
        column = column.astype(np.int64)
    if column.dtype.kind == "S":
        column = decode_array(name, column)[0]
    if column.dtype.kind == "b":
        column = column.astype(np.int64)
    if column.ndim != 1 or column.dtype.kind not in "iuU":
        raise DataError(
            name,
            f"its labels are {column.dtype} of shape {column.shape}, not one class per image",
            "Give whole numbers or names, of shape (N,); numpy.argmax(labels, 1) makes numbers of one-hot rows",
        )
    return column


def _numbered(source: Source, columns: list[NDArray[Any]]) -> tuple[Labels, tuple[str, ...]]:
    """Numbers are indices of the class names, if there are any; otherwise each number that occurs is a class."""
    present = np.unique(np.concatenate(columns)).astype(np.int64)
    names = source.class_names
    if not names:
        numbered = tuple(np.searchsorted(present, column).astype(np.int64) for column in columns)
        return numbered, tuple(str(number) for number in present)
    if len(present) and (present[0] < 0 or present[-1] >= len(names)):
        raise DataError(
            source.name,
            f"its labels run from {present[0]} to {present[-1]}, but there are {len(names)} class names",
            f"Use labels 0 to {len(names) - 1}, or name every class",
        )
    return tuple(column.astype(np.int64) for column in columns), names
