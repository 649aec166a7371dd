"""Reading of metadata.jsonl and metadata.csv: a file_name, its text (or caption), its label, and further columns."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from noisekiln.data.image_names import ImageNames
from noisekiln.data.source import Item
from noisekiln.data.table import TextTable, column_key, read_csv, read_json_lines
from noisekiln.data.text_files import read_text
from noisekiln.errors import DataError, counted, listed

FILES = frozenset({"metadata.jsonl", "metadata.csv"})
NAME_KEYS = ("file_name", "filename", "file", "image", "image_path", "image_name", "path")
CAPTION_KEYS = ("text", "caption", "prompt", "captions")
LABEL_KEYS = ("label", "class", "labels")

Row = dict[str, Any]


@dataclass(frozen=True)
class Metadata:
    """Captions and labels by image name.

    Attributes:
        captions: Caption of each image that has one.
        labels: Label of each image that has one.
        columns: Filled cells of further columns, by the column's name and the image's.
        notes: Notes on how the files were read, and on rows that belong to no image.
    """

    captions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    columns: dict[str, dict[str, str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def read_metadata(items: Sequence[Item], images: ImageNames) -> Metadata:
    """Reads all metadata files; names in them are relative to where each lies. Raises DataError."""
    found = Metadata()
    described: Counter[str] = Counter()
    for item in items:
        text, notes = read_text(item)
        csv = item.name.lower().endswith(".csv")
        table = read_csv(item.name, text, NAME_KEYS, CAPTION_KEYS) if csv else read_json_lines(item.name, text)
        found.notes.extend([*notes, *table.notes])
        for image, row in _rows_of_images(item.name, table, images, found.notes):
            described[image] += 1
            _add_row(found, image, row)
    twice = sum(count - 1 for count in described.values())
    if twice:
        image = next(image for image, count in described.items() if count > 1)
        found.notes.append(
            f"{counted(twice, 'row')} of the metadata {'describes' if twice == 1 else 'describe'} an image again "
            f"(the first: {image!r}); of each image, the last filled cells are used."
        )
    if 0 < 2 * len(found.labels) < len(images.images):
        found.notes.append(
            f"Only {len(found.labels):,} of {len(images.images):,} images have a label in the metadata, so these "
            "labels are not used. Label at least half of the images; those without a label are then left out."
        )
        found.labels.clear()
    return found


def _rows_of_images(name: str, table: TextTable, images: ImageNames, notes: list[str]) -> Iterable[tuple[str, Row]]:
    """Every row with its image; notes say which names were not exact, and which rows have no image."""
    folder = str(PurePosixPath(name).parent).removeprefix(".")
    lost: list[tuple[str, str]] = []
    exact: list[tuple[str, str, Row]] = []
    loose: list[tuple[str, str, Row]] = []
    for row in table.rows:
        file_name = _field(row, NAME_KEYS)
        image, why = (None, "the cell is empty") if file_name is None else images.find(file_name, folder)
        if file_name is None or image is None:
            lost.append((file_name or "", why))
        else:
            same = image in (file_name, str(PurePosixPath(folder, file_name.replace("\\", "/"))))
            (exact if same else loose).append((file_name, image, row))
    _check_names(name, table, lost)
    loose, contested = _uncontested(loose, {image for _, image, _ in exact})
    lost += contested
    if loose:
        notes.append(
            f"{name}: {counted(len(loose), 'name differs', 'names differ')} from the image that is meant, "
            f"such as {loose[0][0]!r} for {loose[0][1]!r}."
        )
    if lost:
        rows = f"{len(lost):,} of {counted(len(table.rows), 'row')} {'belongs' if len(lost) == 1 else 'belong'}"
        notes.append(
            f"{name}: {rows} to no image, the first is {lost[0][0]!r} ({lost[0][1]}). "
            "Give the path of each image, from the folder of this file on."
        )
    return [(image, row) for _, image, row in (*exact, *loose)]


def _uncontested(
    loose: list[tuple[str, str, Row]], taken: set[str]
) -> tuple[list[tuple[str, str, Row]], list[tuple[str, str]]]:
    """The rows whose inexact name is the only one for its image; the others, with the reason."""
    names: dict[str, set[str]] = {}
    for file_name, image, _ in loose:
        names.setdefault(image, set()).add(file_name)
    sure = [entry for entry in loose if entry[1] not in taken and len(names[entry[1]]) == 1]
    unsure = [entry for entry in loose if entry[1] in taken or len(names[entry[1]]) > 1]
    return sure, [(file_name, f"another row fits {image!r}, too") for file_name, image, _ in unsure]


def _check_names(name: str, table: TextTable, lost: list[tuple[str, str]]) -> None:
    """Raise DataError if there are rows, and none of them has a file's name."""
    if table.rows and len(lost) == len(table.rows) and not any(file_name for file_name, _ in lost):
        row = table.rows[0]
        there = f"its columns are {listed(list(row))}" if any(row) else "the row is empty"
        raise DataError(
            name,
            f"a row has no file_name ({there}), so it belongs to no image",
            'Give every row a "file_name"; in a .csv, the first row names the columns, as in "file_name,text"',
        )


def _add_row(found: Metadata, image: str, row: Row) -> None:
    """Adds what a row says about its image."""
    caption, label = _field(row, CAPTION_KEYS), _field(row, LABEL_KEYS)
    if caption is not None:
        found.captions[image] = caption
    if label is not None:
        found.labels[image] = label
    for key, cell in _further(row):
        found.columns.setdefault(key, {})[image] = cell


def _field(row: Row, keys: Sequence[str]) -> str | None:
    """The first of these columns that is filled in, as text."""
    key = _filled_key(row, keys)
    return None if key is None else _cell_text(row[key])


def _further(row: Row) -> Iterator[tuple[str, str]]:
    """The filled cells of columns that are neither name, caption nor label, as text; values in a value as JSON."""
    used = {_filled_key(row, keys) for keys in (NAME_KEYS, CAPTION_KEYS, LABEL_KEYS)}
    for key, value in row.items():
        cell = str(int(value)) if isinstance(value, bool) else _cell_text(value)
        if key and key not in used and cell:
            yield key, cell


def _filled_key(row: Row, keys: Sequence[str]) -> str | None:
    """The name, as it is in the table, of the first of these columns that is filled in."""
    names = {column_key(key): key for key, value in row.items() if not isinstance(value, dict) and _cell_text(value)}
    return next((names[key] for key in keys if key in names), None)


def _cell_text(value: Any) -> str:
    """A value as text: tags in a list are separated by commas, other values in a value are JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        return _valid(", ".join(value)).strip()
    return _as_json(value) if isinstance(value, list | dict) else _valid(str(value)).strip()


def _as_json(value: Any) -> str:
    try:
        return json.dumps(value)
    except RecursionError:  # its depth was just below the limit when it was read
        return ""


def _valid(text: str) -> str:
    """The text without halves of characters, which JSON can hold and no file can."""
    return text.encode("utf-8", "replace").decode("utf-8")
