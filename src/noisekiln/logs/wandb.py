"""Weights & Biases: curves in its service, or offline in the run's folder."""

import importlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from noisekiln.files.atomic import atomic_write
from noisekiln.logs.base import Line, Log


class WandB(Log):
    """A run of Weights & Biases, the same one after an interruption; stored in the folder if no login is found.

    Repeated steps are not logged twice: Weights & Biases ignores lines before its last step.

    Args:
        project: Name of the project.
    """

    package: ClassVar[str | None] = "wandb"
    install: ClassVar[str] = "pip install wandb"

    _run: Any

    def __init__(self, project: str = "noisekiln") -> None:
        self.project = project

    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:  # noqa: D102
        wandb = importlib.import_module("wandb")
        known = folder / "wandb_id"
        if not known.exists():
            with atomic_write(known) as draft:
                draft.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
        options = {
            "project": self.project,
            "name": folder.name,
            "id": known.read_text(encoding="utf-8").strip(),
            "resume": "allow",
            "dir": str(folder),
            "config": dict(settings),
        }
        try:
            self._run = wandb.init(**options)
        except wandb.Error:  # no login, or the service is out of reach
            self._run = wandb.init(**options, mode="offline")

    def write(self, line: Line) -> None:  # noqa: D102 (the base class says it)
        self._run.log(dict(line), step=int(line["images_seen"]))

    def close(self) -> None:  # noqa: D102 (the base class says it)
        self._run.finish()
