"""A log: a CSV file with images seen and loss."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisekiln.logs.base import Line, Log


class CsvLog(Log):
    def __init__(self, name: str = "curves.csv") -> None:
        self.name = name

    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:
        self.file = (folder / self.name).open("a", encoding="utf-8")
        self.file.write(f"# from {images_seen}, seed {settings['seed']}\n")

    def write(self, line: Line) -> None:
        if "loss" in line:
            self.file.write(f"{line['images_seen']},{line['loss']}\n")

    def close(self) -> None:
        self.file.close()
