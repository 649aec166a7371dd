"""Reading of metadata.jsonl and metadata.csv: a file_name, its text (or caption), its label, and further columns."""

import json
import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
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
SEVERAL = "captions"  # a list under this name holds captions, under another one tags
LABEL_KEYS = ("label", "class", "labels")


@dataclass(frozen=True)
class Entry:
    """What a row says about an image: "" and no further cells for what it does not say."""

    file_name: str
    caption: str
    label: str
    further: dict[str, str]


@dataclass(frozen=True)
class Metadata:
    """Captions and labels by image name.

    Attributes:
        captions: Captions of each image that has any, one on each line.
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
        for image, entry in _entries_of_images(item.name, table, images, found.notes):
            described[image] += 1
            _add_entry(found, image, entry)
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


def _entries_of_images(
    name: str, table: TextTable, images: ImageNames, notes: list[str]
) -> Iterable[tuple[str, Entry]]:
    """Every row with its image; notes say which names were not exact, and which rows have no image."""
    folder = str(PurePosixPath(name).parent).removeprefix(".")
    lost: list[tuple[str, str]] = []
    exact: list[tuple[str, Entry]] = []
    loose: list[tuple[str, Entry]] = []
    for row in table.rows:
        entry = _entry_of(row)
        image, why = images.find(entry.file_name, folder) if entry.file_name else (None, "the cell is empty")
        if image is None:
            lost.append((entry.file_name, why))
        else:
            same = image in (entry.file_name, posixpath.join(folder, entry.file_name))
            (exact if same else loose).append((image, entry))
    _check_names(name, table, lost)
    loose, contested = _uncontested(loose, {image for image, _ in exact})
    lost += contested
    if loose:
        notes.append(
            f"{name}: {counted(len(loose), 'name differs', 'names differ')} from the image that is meant, "
            f"such as {loose[0][1].file_name!r} for {loose[0][0]!r}."
        )
    if lost:
        rows = f"{len(lost):,} of {counted(len(table.rows), 'row')} {'belongs' if len(lost) == 1 else 'belong'}"
        notes.append(
            f"{name}: {rows} to no image, the first is {lost[0][0]!r} ({lost[0][1]}). "
            "Give the path of each image, from the folder of this file on."
        )
    return (*exact, *loose)


def _uncontested(
    loose: list[tuple[str, Entry]], exact: set[str]
) -> tuple[list[tuple[str, Entry]], list[tuple[str, str]]]:
    """The entries whose inexact name is the only one for its image; the names of the others, with the reason."""
    names: dict[str, set[str]] = {}
    for image, entry in loose:
        names.setdefault(image, set()).add(entry.file_name)
    sure = [(image, entry) for image, entry in loose if image not in exact and len(names[image]) == 1]
    unsure = [(image, entry) for image, entry in loose if image in exact or len(names[image]) > 1]
    return sure, [(entry.file_name, f"another row fits {image!r}, too") for image, entry in unsure]


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


def _add_entry(found: Metadata, image: str, entry: Entry) -> None:
    """Adds what a row says about its image."""
    if entry.caption:
        found.captions[image] = entry.caption
    if entry.label:
        found.labels[image] = entry.label
    for key, cell in entry.further.items():
        found.columns.setdefault(key, {})[image] = cell


def _entry_of(row: dict[str, Any]) -> Entry:
    """The filled cells of a row as text, by their meaning."""
    texts = {key: text for key, value in row.items() if (text := _cell_text(value, column_key(key) == SEVERAL))}
    names = {column_key(key): key for key in texts if not isinstance(row[key], dict)}
    used = [next((names[key] for key in keys if key in names), None) for keys in (NAME_KEYS, CAPTION_KEYS, LABEL_KEYS)]
    further = {key: text for key, text in texts.items() if key and key not in used}
    further |= {key: str(int(row[key])) for key in further if isinstance(row[key], bool)}
    file_name, caption, label = (texts[key] if key is not None else "" for key in used)
    return Entry(file_name, caption, label, further)


def _cell_text(value: Any, several: bool = False) -> str:
    """A value as text: tags in a list are separated by commas, captions by lines, other values in a value are JSON."""
    if value is None:
        return ""
    if isinstance(value, list) and all(isinstance(each, str) for each in value):
        if several:
            return _valid("\n".join(" ".join(each.split()) for each in value)).strip()
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
