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
    """A file with one JSON object per line; a truncated last line is removed when a run resumes."""

    _file: TextIO

    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:
        """Continue the file; lines after the checkpoint are removed, because those steps are repeated."""
        file = folder / FILE
        if file.is_file():
            lines = file.read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if _images_seen(line) <= images_seen]
            with atomic_write(file) as draft:
                draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = open_to_append(file)

    def write(self, line: Line) -> None:  # noqa: D102 (the base class says it)
        self._file.write(json.dumps(dict(line)) + "\n")
        self._file.flush()

    def close(self) -> None:  # noqa: D102 (the base class says it)
        self._file.close()


def _images_seen(line: str) -> float:
    """Images seen at a line; infinite if the line is damaged."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):
        return inf
