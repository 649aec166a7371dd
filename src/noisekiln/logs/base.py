"""Where lines of numbers go: a file always, TensorBoard, Weights & Biases."""

import importlib
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

Line = Mapping[str, float | str]  # numbers by name, `images_seen` among them; seldom a word
KINDS = ("auto", "none", "tensorboard", "wandb")


class Log(Protocol):
    """A place for lines."""

    def write(self, line: Line) -> None:
        """Take in a line."""

    def close(self) -> None:
        """Nothing more will come."""


class Logs:
    """Several logs as one, closed at the end of a `with`."""

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs

    def __enter__(self) -> "Logs":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for log in self._logs:
            log.close()

    def write(self, line: Line) -> None:
        """Write a line to each."""
        for log in self._logs:
            log.write(line)


def open_logs(kind: str, folder: Path, resumed: int, about: Mapping[str, Any]) -> Logs:
    """The logs of a run: `metrics.jsonl`, and what `pick_log` has picked.

    Args:
        kind: One of `KINDS`, but "auto".
        folder: Of the run.
        resumed: Images seen before, by the checkpoint that it goes on from.
        about: Settings, for who shows them.
    """
    from noisekiln.logs.json_lines import JsonLines
    from noisekiln.logs.tensorboard import TensorBoard
    from noisekiln.logs.wandb import WeightsAndBiases

    logs: list[Log] = [JsonLines(folder / "metrics.jsonl", resumed)]
    if kind == "tensorboard":
        logs.append(TensorBoard(folder / "tensorboard", resumed))
    if kind == "wandb":
        logs.append(WeightsAndBiases(folder, about))
    return Logs(logs)


def pick_log(asked: str) -> str:
    """The kind of log to keep: as asked, or for "auto" TensorBoard's if that is installed.

    Raises:
        ValueError: If what was asked for is not installed.
    """
    if asked == "auto":
        return "tensorboard" if _installed("tensorboard") else "none"
    if asked != "none" and not _installed(asked):
        extra = {"tensorboard": 'pip install "noisekiln[log]"', "wandb": "pip install wandb"}[asked]
        raise ValueError(f"curves={asked!r} needs the package {asked}, which is not installed. Install it: {extra}.")
    return asked


def _installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
