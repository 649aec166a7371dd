"""TensorBoard: curves over images seen, for ``tensorboard --logdir``."""

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from noisekiln.logs.base import Line, Log


class TensorBoard(Log):
    """Event files in the run's folder `tensorboard`; points after the checkpoint are hidden when a run resumes."""

    package: ClassVar[str | None] = "tensorboard"
    install: ClassVar[str] = 'pip install "noisekiln[log]"'
    automatic: ClassVar[bool] = True

    _writer: Any

    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:  # noqa: D102
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder / "tensorboard"), purge_step=images_seen + 1)

    def write(self, line: Line) -> None:  # noqa: D102 (the base class says it)
        for name, value in line.items():
            if name != "images_seen" and not isinstance(value, str):
                self._writer.add_scalar(name, value, int(line["images_seen"]))

    def close(self) -> None:  # noqa: D102 (the base class says it)
        self._writer.close()
