"""Tables in text files: comma-separated values of any dialect, and JSON lines."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from noisekiln.errors import DataError, counted

DELIMITERS = ",;\t|"
SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?[ \t]*(\r\n|\r|\n)', re.IGNORECASE)  # Excel's own first line


@dataclass(frozen=True)
class TextTable:
    """Rows of a table.

    Attributes:
        rows: Cells by the column's name, without empty rows.
        notes: Notes on how the table was read.
    """

    rows: list[dict[str, Any]]
    notes: list[str]


@lru_cache(maxsize=4096)
def column_key(name: str) -> str:
    """A column's name as it is compared: "File Name" is "file_name"."""
    return re.sub(r"[\s-]+", "_", str(name).strip().lower())


def read_json_lines(name: str, text: str) -> TextTable:
    """Objects, one per line, or all in one list. Raises DataError."""
    if text.lstrip().startswith("["):
        return TextTable(_json_objects(name, _json_value(text)), [])
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text), 1):  # JSON allows other separators inside a text
        if line.strip():
            rows += _json_objects(f"{name}, line {number}", [_json_value(line)])
    return TextTable(rows, [])


def read_csv(name: str, text: str, name_keys: Sequence[str], text_keys: Sequence[str]) -> TextTable:
    """Comma-, semicolon- or tab-separated values below a first row of names.

    Where a row has more cells than names, the ones too many are commas in its text that are not quoted.

    Args:
        name: Name of the file, for messages.
        text: The text of the file.
        name_keys: Names of the column of file names, by which the delimiter is found.
        text_keys: Names of the column that may hold text with delimiters.
    """
    separator = SEPARATOR_LINE.match(text)
    text = text[separator.end() :] if separator else text
    delimiter = separator[1] if separator and separator[1] in DELIMITERS else _delimiter(text, name_keys)
    records, notes = _records(name, text, delimiter)
    if not records:
        return TextTable([], notes)
    header = [cell.strip() for cell in records[0]]
    keys = [column_key(cell) for cell in header]
    wide = next((keys.index(key) for key in text_keys if key in keys), None)
    joined, dropped, rows = 0, 0, []
    for cells in records[1:]:
        while len(cells) > len(header) and not cells[-1].strip():
            cells = cells[:-1]  # spreadsheets pad rows with empty cells
        extra = len(cells) - len(header)
        if extra > 0 and wide is not None:
            cells = [*cells[:wide], delimiter.join(cells[wide : wide + extra + 1]), *cells[wide + extra + 1 :]]
            joined += 1
        dropped += extra > 0 and wide is None
        rows.append(_row_by_name(header, cells, text_keys))
    return TextTable(rows, [*notes, *_about_cells(name, header, rows, text_keys, delimiter, joined, dropped)])


def _row_by_name(header: Sequence[str], cells: Sequence[str], text_keys: Sequence[str]) -> dict[str, Any]:
    """Cells by name; of columns of one name all lines of a text, and the first filled cell of others."""
    row: dict[str, Any] = {}
    for column, cell in zip(header, cells, strict=False):
        text = cell.strip()
        text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text
        earlier = row.get(column)
        if earlier and text and column_key(column) in text_keys:
            text = f"{earlier}\n{text}"
        elif earlier:
            text = earlier
        row[column] = text
    return row


def _about_cells(
    name: str,
    header: Sequence[str],
    rows: Sequence[dict[str, Any]],
    text_keys: Sequence[str],
    delimiter: str,
    joined: int,
    dropped: int,
) -> Iterator[str]:
    """Notes on cells that were joined or left out."""
    sign = {"\t": "tabs"}.get(delimiter, f"'{delimiter}'")
    if joined:
        yield f"{name}: in {counted(joined, 'row')} the text holds {sign} without quotes; all of it was read as text."
    if dropped:
        yield f"{name}: {counted(dropped, 'row has', 'rows have')} more cells than names; the last ones are not used."
    if any(row.get("") for row in rows):
        yield f"{name}: cells without a name in the first row are not used."
    repeated = sorted({column for column in header if column and header.count(column) > 1})
    texts = [column for column in repeated if column_key(column) in text_keys]
    if texts:
        yield f"{name}: several columns are called {', '.join(texts)}; each of them is a caption of its own."
    twice = [column for column in repeated if column not in texts]
    if twice:
        yield f"{name}: several columns are called {', '.join(twice)}; the first filled one of each row is used."


def _records(name: str, text: str, delimiter: str) -> tuple[list[list[str]], list[str]]:
    """The cells of every row that is not empty. A quote that is never closed must not swallow the rows after it."""
    with _any_field_size():
        try:
            records = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
            notes = []
        except csv.Error:
            lines = re.split(r"\r\n|\r|\n", text)
            records = [cells for line in lines for cells in csv.reader([line], delimiter=delimiter)]
            notes = [f"{name}: some quotation marks in it have no partner, so each of its lines was read as one row."]
    return [cells for cells in records if any(map(str.strip, cells))], notes


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Fields of any length; the limit of the csv module, 131,072 characters, is restored afterwards."""
    before = csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str, name_keys: Sequence[str]) -> str:
    """The sign that cuts the first line into the most names, one of which is that of the file names."""
    first = next((line for line in re.split(r"[\r\n]", text) if line.strip()), "")
    cuts = {sign: [column_key(cell.strip().strip('"')) for cell in first.split(sign)] for sign in DELIMITERS}
    return max(DELIMITERS, key=lambda sign: (bool({*name_keys} & {*cuts[sign]}), len(cuts[sign])))


def _json_value(text: str) -> Any:
    """The value, or None if it is no JSON; too deep a nesting is none, either."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _json_objects(where: str, values: Any) -> list[dict[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
        raise DataError(where, "it is not a JSON object", "Write one {...} per line")
    return values
