"""TensorBoard event files."""

import importlib
from pathlib import Path

from noisekiln.logs.base import Line


class TensorBoard:
    """Curves over images seen, for ``tensorboard --logdir``; what was said beyond `resumed` is hidden there.

    Args:
        folder: Of the event files.
        resumed: Images seen before.
    """

    def __init__(self, folder: Path, resumed: int) -> None:
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(folder), purge_step=resumed + 1)

    def write(self, line: Line) -> None:  # noqa: D102 (the protocol says it)
        for name, value in line.items():
            if name != "images_seen" and not isinstance(value, str):
                self._writer.add_scalar(name, value, int(line["images_seen"]))

    def close(self) -> None:  # noqa: D102 (the protocol says it)
        self._writer.close()
