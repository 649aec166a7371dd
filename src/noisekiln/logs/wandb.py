"""Weights & Biases."""

import importlib
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from noisekiln.logs.base import Line


class WeightsAndBiases:
    """A run of Weights & Biases, the same one after an interruption; kept in the folder where nobody is logged in.

    Steps that are taken again are not doubled: Weights & Biases ignores what lies before its last step.

    Args:
        folder: Of the run; its name is the run's.
        about: Settings to show beside the curves.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        wandb = importlib.import_module("wandb")
        known = folder / "wandb_id"
        if not known.exists():
            known.write_text(uuid.uuid4().hex[:8] + "\n", encoding="utf-8")
        how = {
            "project": "noisekiln",
            "name": folder.name,
            "id": known.read_text(encoding="utf-8").strip(),
            "resume": "allow",
            "dir": str(folder),
            "config": dict(about),
        }
        try:
            self._run = wandb.init(**how)
        except wandb.Error:  # nobody is logged in, or the service is out of reach
            self._run = wandb.init(**how, mode="offline")

    def write(self, line: Line) -> None:  # noqa: D102 (the protocol says it)
        self._run.log(dict(line), step=int(line["images_seen"]))

    def close(self) -> None:  # noqa: D102 (the protocol says it)
        self._run.finish()
