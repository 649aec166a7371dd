"""JSON lines: `metrics.jsonl`, always written."""

import json
from collections.abc import Mapping
from math import inf
from pathlib import Path
from typing import Any, TextIO

from noisekiln.files.atomic import atomic_write, open_to_append
from noisekiln.logs.base import Line, Log

FILE = "metrics.jsonl"


class JsonLines(Log):
    """A file with one JSON object per line; damaged lines are left out when a run resumes, the others stay."""

    _file: TextIO

    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:
        """Continue the file; lines after the checkpoint are removed, because those steps are repeated."""
        file = folder / FILE
        if file.is_file():
            kept = [line for line in _complete_lines(file) if _images_seen(line) <= images_seen]
            with atomic_write(file) as draft:
                draft.write_bytes(b"".join(kept))
        self._file = open_to_append(file)

    def write(self, line: Line) -> None:  # noqa: D102 (the base class says it)
        self._file.write(json.dumps(dict(line)) + "\n")
        self._file.flush()

    def close(self) -> None:  # noqa: D102 (the base class says it)
        self._file.close()


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's `metrics.jsonl`, without damaged ones; none if there is no such file."""
    return [entries for entries in map(_parse_line, _complete_lines(folder / FILE)) if entries is not None]


def damage_of_log(folder: Path) -> str:
    """One line of text if lines of a run's `metrics.jsonl` cannot be read; otherwise ""."""
    lines = _complete_lines(folder / FILE)
    damaged = [number for number, line in enumerate(lines, 1) if _images_seen(line) == inf]
    if not damaged:
        return ""
    first = f"line {damaged[0]} is" if len(damaged) == 1 else f"{len(damaged):,} lines from line {damaged[0]} on are"
    return f"{FILE}: {first} damaged and left out; the others stay"


def _complete_lines(file: Path) -> list[bytes]:
    """The lines; the rest after the last line's end, which a killed process leaves, is of steps that are repeated."""
    return [line + b"\n" for line in file.read_bytes().split(b"\n")[:-1]] if file.is_file() else []


def _images_seen(line: bytes) -> float:
    """Images seen at a line; infinite if the line is damaged."""
    try:
        return float((_parse_line(line) or {})["images_seen"])
    except (ValueError, KeyError, TypeError):
        return inf


def _parse_line(line: bytes) -> dict[str, Any] | None:
    """The numbers by name; None for a damaged line. A loss may be NaN, which JSON itself does not know."""
    try:
        entries = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return entries if isinstance(entries, dict) else None
