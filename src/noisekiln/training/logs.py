"""Where lines of numbers go: a file always, TensorBoard, Weights & Biases."""

import importlib
import importlib.util
import json
import uuid
from collections.abc import Mapping, Sequence
from math import inf
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


class JsonLines:
    """A file with a line of JSON for each.

    Args:
        file: Where; lines that are there stay, but for a last one that was cut off.
        resumed: Images seen before. What was said beyond is dropped: those steps are taken again.
    """

    def __init__(self, file: Path, resumed: int) -> None:
        if file.exists():
            from noisekiln.replacing import replacing  # which needs safetensors: too much for `--help`

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


def _images_seen(line: str) -> float:
    """Of a line; beyond all, if the line was cut off."""
    try:
        return float(json.loads(line)["images_seen"])
    except (ValueError, KeyError, TypeError):
        return inf
