"""JSON files, which may come from other people: whatever is wrong with them is a ValueError."""

import json
from pathlib import Path
from typing import Any, NoReturn

from noisekiln.files.atomic import atomic_write
from noisekiln.files.plain_file import MAX_BYTES, read_plain_text


def parse_json(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: If it is no JSON, is nested too deeply, or has a number that is not finite.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(file: Path, max_bytes: int = MAX_BYTES) -> Any:
    """The value in a JSON file.

    Args:
        file: The file.
        max_bytes: Size above which it is not read.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is damaged, too large, or no plain file.
    """
    return parse_json(read_plain_text(file, max_bytes))


def write_json(file: Path, value: object, *, indent: int | None = 2) -> None:
    """Write a JSON file atomically, as readable UTF-8; names of files that are not UTF-8 are escaped."""
    write_json_text(file, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def write_json_text(file: Path, text: str) -> None:
    """Write the text of a JSON file atomically, as `write_json` does."""
    with atomic_write(file) as draft:
        draft.write_text(text, encoding="utf-8", errors="backslashreplace")  # of a lone surrogate: JSON's own escape


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it holds {name}, which is no number")
