"""A file of JSON lines."""

import json
from math import inf
from pathlib import Path

from noisekiln.logs.base import Line


class JsonLines:
    """A file with a line of JSON for each.

    Args:
        file: Where; lines that are there stay, but for a last one that was cut off.
        resumed: Images seen before. What was said beyond is dropped: those steps are taken again.
    """

    def __init__(self, file: Path, resumed: int) -> None:
        if file.exists():
            from noisekiln.files.atomic import replacing  # which needs safetensors: too much for `--help`

            lines = file.read_text(encoding="utf-8").splitlines()
            kept = [line for line in lines if _images_seen(line) <= resumed]
            with replacing(file) as draft:
                draft.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
        self._file = file.open("a", encoding="utf-8")

    def write(self, line: Line) -> None:  # noqa: D102 (the protocol says it)
        self._file.write(json.dumps(dict(line)) + "\n")
        self._file.flush()

    def close(self) -> None:  # noqa: D102 (the protocol says it)
        self._file.close()


def _images_seen(line: str) -> float:
    """Of a line; beyond all, if the line was cut off."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):
        return inf
