"""The interface of logs, and several logs as one."""

import errno
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self

from noisekiln.components.registry import find, name_of, names
from noisekiln.components.spec import build, class_of

ALWAYS = "json_lines"  # the log that every run has
Line = Mapping[str, float | str]  # numbers by name, including `images_seen`; rarely text


class Log(ABC):
    """A backend for the lines of a run. Constructor arguments are its settings; `open` comes first, `close` last.

    `package`, `install` and `automatic` may be overridden.
    """

    package: ClassVar[str | None] = None  # package that it needs, if any
    install: ClassVar[str] = ""  # command that installs the package
    automatic: ClassVar[bool] = False  # whether `curves=auto` uses it if its package is installed

    @abstractmethod
    def open(self, folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:
        """Start a new log, or resume one.

        Args:
            folder: Folder of the run.
            images_seen: Images seen by the checkpoint that the run resumes from; later lines will be written again.
            settings: Settings of the run, to show beside the curves.
        """

    @abstractmethod
    def write(self, line: Line) -> None:
        """Write a line."""

    @abstractmethod
    def close(self) -> None:
        """Write buffered lines and close the log."""


class Logs:
    """Several logs as one, open in a `with`.

    Args:
        logs: The logs.
        folder: Folder of the run.
        images_seen: Images seen by the checkpoint that the run resumes from.
        settings: Settings of the run.
    """

    def __init__(self, logs: Sequence[Log], folder: Path, images_seen: int, settings: Mapping[str, Any]) -> None:
        self._logs = logs
        self._start = (folder, images_seen, settings)

    def __enter__(self) -> Self:
        with ExitStack() as opened:
            for log in self._logs:
                self._open(log)
                opened.callback(log.close)
            self._opened = opened.pop_all()  # all are open: they stay so until the end of the `with`
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()  # each of them, even if one raises an error

    def _open(self, log: Log) -> None:
        """Open a log; an error of an additional one, other than a full disk, names its setting."""
        try:
            log.open(*self._start)
        except OSError as error:
            if name_of(type(log)) == ALWAYS or error.errno in (errno.ENOSPC, errno.ENOMEM):
                raise
            raise ValueError(
                f"`curves={name_of(type(log))}`: this log cannot be opened ({str(error).rstrip('.')}). "
                "Correct its settings, or give another `curves`, such as none."
            ) from error

    def write(self, line: Line) -> None:
        """Write a line to each."""
        for log in self._logs:
            log.write(line)


def choose_log(spec: str) -> str:
    """The spec of the log to write in addition to `metrics.jsonl`: as requested; for "auto" one that is installed.

    Returns:
        A spec, or "none".

    Raises:
        ValueError: If there is no such log, or its package is not installed.
    """
    if spec == "none":
        return spec
    if spec == "auto":
        return next((name for name in names("logs") if _is_automatic(find(Log, name))), "none")
    kind = class_of(Log, spec)
    if name_of(kind) == ALWAYS:
        return "none"
    if kind.package is not None and not _is_installed(kind.package):
        raise ValueError(
            f"`curves={spec}` needs the package {kind.package}, which is not installed. Install it: {kind.install}."
        )
    return spec


def make_logs(spec: str) -> list[Log]:
    """`metrics.jsonl`, and the log that `choose_log` returned."""
    return [build(Log, ALWAYS), *([] if spec == "none" else [build(Log, spec)])]


def _is_automatic(kind: type[Log]) -> bool:
    return kind.automatic and (kind.package is None or _is_installed(kind.package))


def _is_installed(package: str) -> bool:
    return importlib.util.find_spec(package) is not None
