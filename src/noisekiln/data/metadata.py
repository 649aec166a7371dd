"""Reading of metadata.jsonl and metadata.csv: a file_name, its text (or caption), its label, and further columns."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from PIL import Image

from noisekiln.data.dataset import Skipped
from noisekiln.data.source import Item
from noisekiln.errors import DataError

FILES = frozenset({"metadata.jsonl", "metadata.csv"})
NAME_KEYS = ("file_name", "filename", "file")
CAPTION_KEYS = ("text", "caption", "prompt")
LABEL_KEYS = ("label", "class")
KNOWN_KEYS = frozenset({*NAME_KEYS, *CAPTION_KEYS, *LABEL_KEYS})


@dataclass(frozen=True)
class Metadata:
    """Captions and labels by image name.

    Attributes:
        captions: Caption of each image that has one.
        labels: Label of each image that has one.
        columns: Filled cells of further columns, by the column's name and the image's.
        missing: Names in the metadata that no image has.
    """

    captions: dict[str, str]
    labels: dict[str, str]
    columns: dict[str, dict[str, str]]
    missing: tuple[Skipped, ...]


def read_metadata(items: Sequence[Item], images: frozenset[str]) -> Metadata:
    """Reads all metadata files; names in them are relative to where each lies. Raises DataError."""
    captions: dict[str, str] = {}
    labels: dict[str, str] = {}
    columns: dict[str, dict[str, str]] = {}
    missing: list[Skipped] = []
    for item in items:
        here = PurePosixPath(item.name).parent
        for row in _metadata_rows(item):
            file_name = _field(row, NAME_KEYS)
            if file_name is None:
                there = f"its columns are {', '.join(map(str, row))}" if row else "the row is empty"
                raise DataError(
                    item.name,
                    f"a row has no file_name ({there}), so it belongs to no image",
                    'Give every row a "file_name"; in a .csv, commas separate',
                )
            name = str(here / file_name.replace("\\", "/"))
            if name not in images:
                outside = file_name.startswith("/") or ".." in PurePosixPath(name).parts
                why = "outside the data's folder" if outside else "not there"
                missing.append(Skipped(name, f"named in {item.name}, but {why}"))
                continue
            caption, label = _field(row, CAPTION_KEYS), _field(row, LABEL_KEYS)
            if caption is not None:
                captions[name] = caption
            if label is not None:
                labels[name] = label
            for key, cell in _further(row).items():
                columns.setdefault(key, {})[name] = cell
    return Metadata(captions, labels, columns, tuple(missing))


def text_of(item: Item) -> str:
    """A text file's text, whether or not it starts with a byte-order mark. Raises DataError if it is not UTF-8."""
    try:
        with item.open() as handle:
            assert not isinstance(handle, Image.Image)  # these items are files
            return handle.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(item.name, f"its text cannot be read ({error})", "Save it as UTF-8") from error


def _metadata_rows(item: Item) -> Iterator[dict[str, Any]]:
    text = text_of(item)
    if item.name.lower().endswith(".csv"):
        yield from csv.DictReader(io.StringIO(text))
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{item.name}, line {number}", "it is not a JSON object", "Write one {...} per line")
        yield row


def _field(row: dict[str, Any], keys: Sequence[str]) -> str | None:
    """The first of these columns that is filled in, as text."""
    return next((str(row[key]).strip() for key in keys if row.get(key) not in (None, "")), None)


def _further(row: dict[str, Any]) -> dict[str, str]:
    """The filled cells of columns that are neither name, caption nor label, as text; values in a value as JSON."""
    cells = {key: _cell(value) for key, value in row.items() if key and key not in KNOWN_KEYS}
    return {key: cell for key, cell in cells.items() if cell}


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return value.strip() if isinstance(value, str) else json.dumps(value)
