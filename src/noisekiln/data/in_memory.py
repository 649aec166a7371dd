"""Data in memory as a source: which column holds the images, which the classes, which the captions."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.columns import Columns, from_arrays
from noisekiln.data.dataset import Altered
from noisekiln.data.memory_images import stack_or_items
from noisekiln.data.rows import (
    IMAGE,
    SECOND,
    THIRD,
    Table,
    as_array,
    is_images_and_words,
    is_stack,
    is_word,
    names_of_classes,
    read_table,
)
from noisekiln.data.source import Part, Source
from noisekiln.errors import DataError, counted

IMAGES = (IMAGE, "images", "img", "pixel_values", "picture", "x", "data", "x_train", "train_images")
LABELS = ("label", "labels", "class", "classes", "target", "targets", "y", "fine_label", "y_train", "train_labels")
CAPTIONS = ("caption", "captions", "text", "prompt", "description")
TESTS = ("test", "validation", "valid", "val")


def from_memory(source: Any, labels: Any = None, captions: Any = None) -> Source:
    """A source from what people have in memory.

    Args:
        source: An array or a tensor, a PIL image, a list of images or of paths, pairs of an image and its class or
            caption, (images, labels), columns by name, rows, a data set or a loader of torch; or a dict of a train and
            a test part of these.
        labels: The class of each image, instead of those in `source`.
        captions: The caption of each image, likewise.

    Raises:
        DataError: If it is none of these.
    """
    if isinstance(source, tuple) and len(source) == 2 and all(map(_is_part_of_two, source)):
        source = {"train": source[0], "test": source[1]}
    if isinstance(source, Mapping) and "train" in source and not is_word(source["train"]):
        return _of_parts(source, labels, captions)
    table = read_table(source)
    kinds = _kinds(table)
    part, names, notes = _part_of_table(table, kinds, source)
    if labels is not None:
        part = replace(part, labels=_requested_words("labels", labels, part))
        notes.append("The classes are those of `labels`.")
    if captions is not None:
        part = replace(part, captions=_texts("captions", _requested_words("captions", captions, part)))
    name = "array" if isinstance(part.images, np.ndarray) else "images"
    numbers = all(not isinstance(label, str) for label in ([] if part.labels is None else part.labels))
    return Source(name, part, class_names=names if numbers else (), notes=(*table.notes, *notes))


def _is_part_of_two(part: Any) -> bool:
    """Whether this is one of two (images, labels), as Keras has them for training and for tests."""
    return isinstance(part, tuple) and is_images_and_words(part) and is_stack(part[0])


def _of_parts(source: Mapping[str, Any], labels: Any, captions: Any) -> Source:
    """The train and the test part of a dict of data sets; others are left out."""
    if labels is not None or captions is not None:
        raise DataError("`labels`", "they belong to one part, and there are several", "Give the train part alone")
    test = next((name for name in TESTS if name in source), None)
    train = from_memory(source["train"])
    others = [name for name in source if name not in ("train", test)]
    notes = (
        [Altered(f"Only train and {test or 'no test part'} are used; left out: {', '.join(others)}.")] if others else []
    )
    if test is None:
        return replace(train, notes=(*train.notes, *notes))
    held_out = from_memory(source[test])
    return replace(train, test=held_out.train, notes=tuple(dict.fromkeys((*train.notes, *held_out.notes, *notes))))


def _kinds(table: Table) -> dict[str, str]:
    """The columns of the images, the labels and the captions, as far as there are any."""
    lower = {name.lower(): name for name in reversed(table.columns)}
    found = {
        kind: next((lower[name] for name in names if name in lower), None)
        for kind, names in (("images", IMAGES), ("labels", LABELS), ("captions", CAPTIONS))
    }
    if found["images"] is None:
        images = [name for name, values in table.columns.items() if _holds_images(values)]
        if len(images) > 1:
            raise DataError(
                "the data",
                f"several columns hold images ({', '.join(images[:8])}), and none of them is called `image`",
                "Name the one to train on `image`; of a column for each class, make (images, labels)",
            )
        found["images"] = images[0] if images else None
    if SECOND in table.columns:
        meaning = _meaning(table.columns[SECOND])
        found |= {meaning: SECOND} if meaning else {}
    if found["captions"] is None and _meaning(table.columns.get(THIRD, ())) == "captions":  # a number may be an index
        found["captions"] = THIRD
    if found["images"] is None:
        names = ", ".join(list(table.columns)[:8]) or "none"
        raise DataError(
            "the data",
            f"no column holds images (columns: {names})",
            "Name the column of images `image`, or give a list",
        )
    return {kind: name for kind, name in found.items() if name is not None}


def _part_of_table(table: Table, kinds: dict[str, str], source: Any) -> tuple[Part, tuple[str, ...], list[str]]:
    """The part, the names of its classes, and notes on the columns."""
    images: Any = stack_or_items(table.columns[kinds["images"]])
    if not len(images):
        raise DataError("an empty sequence", "there is nothing to train on", "Give at least one image")
    read = {kind: _one_by_one(table.columns[name]) for kind, name in kinds.items() if kind != "images"}
    for kind, values in read.items():
        _check_length(kinds[kind], values, len(images))
    others = {name: values for name, values in table.columns.items() if name not in kinds.values()}
    columns, left_out = _other_columns(others, len(images))
    notes: list[str] = [_about_column("classes" if kind == "labels" else kind, kinds[kind]) for kind in read]
    if left_out:
        notes.append(Altered(f"Left out, as it is neither a class nor a caption nor a number: {', '.join(left_out)}."))
    captions = _texts(kinds["captions"], read["captions"]) if "captions" in read else None
    names = table.class_names.get("", ()) or names_of_classes(source, kinds.get("labels", ""))
    return Part(images, read.get("labels"), captions, columns), names if "labels" in read else (), notes


def _about_column(kind: str, name: str) -> str:
    return f"The {kind} are {name if name in (SECOND, THIRD) else f'the column {name}'}."


def _holds_images(values: Any) -> bool:
    if is_stack(values):
        return bool(values.ndim in (3, 4))
    first = next(iter(values), None) if isinstance(values, Sequence) and not isinstance(values, str) else None
    return isinstance(first, Image.Image) or (is_stack(first) and getattr(first, "ndim", 0) in (2, 3))


def _meaning(values: Any) -> str | None:
    """Whether words are labels (numbers, or texts of one word) or captions; None for other things."""
    words = [value for value in _one_by_one(values) if value is not None]
    if not words or not all(is_word(word) for word in words):
        return None
    texts = [word for word in words if isinstance(word, str)]
    return "captions" if len(texts) == len(words) and any(len(text.split()) > 1 for text in texts) else "labels"


def _one_by_one(values: Any) -> list[Any]:
    """Values one by one, numbers as those of Python."""
    rows = as_array(values) if is_stack(values) else _stacked_rows(values)
    listed = list(values) if rows is None else _classes_of_rows(rows).tolist()
    return [as_array(value).item() if getattr(value, "shape", None) in ((), (1,)) else value for value in listed]


def _stacked_rows(values: Any) -> NDArray[Any] | None:
    """Vectors of one length, such as one-hot labels, as an array (N, K); None for anything else."""
    vectors = all(is_stack(value) and value.ndim == 1 for value in values)
    rows = [as_array(value) for value in values] if vectors else []
    return np.stack(rows) if len({len(row) for row in rows}) == 1 else None


def _classes_of_rows(values: NDArray[Any]) -> NDArray[Any]:
    """Rows of one, (N, 1), as (N,), and one-hot rows, (N, K), as numbers of their classes; anything else unchanged."""
    if values.ndim == 2 and values.shape[1] == 1:  # CIFAR of Keras, MedMNIST
        return values[:, 0]
    one_hot = (
        values.ndim == 2
        and values.shape[1] > 1
        and bool((np.sort(values, axis=1) == [0] * (values.shape[1] - 1) + [1]).all())
    )
    return values.argmax(1) if one_hot else values


def _requested_words(name: str, values: Any, part: Part) -> list[Any]:
    """The values of `labels` or `captions`, one for each image."""
    if isinstance(values, str) or not (is_stack(values) or isinstance(values, Sequence)):
        raise DataError(f"`{name}`", f"a {type(values).__name__} is not one for each image", "Give a list of them")
    listed = _one_by_one(values)
    _check_length(name, listed, len(part.images))
    return listed


def _check_length(name: str, values: Sequence[Any], count: int) -> None:
    if len(values) != count:
        raise DataError(
            f"`{name}`",
            f"there are {counted(count, 'image')} and {counted(len(values), 'value')} here, so they cannot be paired",
            "Give one for each image, in the same order",
        )


def _texts(name: str, values: Sequence[Any]) -> list[str]:
    """Captions; several for one image each on its own line."""
    several = [list(value) if isinstance(value, list | tuple) else [value] for value in values]
    for value in chain.from_iterable(several):
        if value is not None and not isinstance(value, str):
            raise DataError(f"`{name}`", f"{str(value)[:60]!r} is no text", "Give captions as texts")
    return [
        own[0] or "" if len(own) == 1 else "\n".join(" ".join(each.split()) for each in own if each) for own in several
    ]


def _other_columns(columns: Mapping[str, Any], count: int) -> tuple[Columns, list[str]]:
    """Columns of one number or text for each image, and the names of those of other kinds."""
    arrays = {name: as_array(values) for name, values in columns.items()}
    kept = from_arrays({name: array for name, array in arrays.items() if array.shape[:1] == (count,)}, count)
    return kept, [name for name in columns if name not in kept]
