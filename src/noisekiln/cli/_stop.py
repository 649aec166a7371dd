"""Ctrl-C while a command has not begun to save anything: one line, and exit code 130."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path

import typer

from noisekiln.distributed import torchrun
from noisekiln.paths import expand_home

CODE = 130


def stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """A command that Ctrl-C ends with a line; one that has saved something says itself what, and exits."""

    @wraps(command)
    def run(**values: object) -> None:
        try:
            command(**{name: _expand(value) for name, value in values.items()})
        except KeyboardInterrupt:
            raise typer.Exit(stopped_before_saving()) from None

    return run


def _expand(value: object) -> object:
    """The value of an option, with ~ in paths as the home folder."""
    if isinstance(value, list):
        return [_expand(each) for each in value]
    return expand_home(value) if isinstance(value, Path) else value


def stopped_before_saving() -> int:
    """Print the line, in the main process only, and return the exit code."""
    if torchrun.rank() == 0:
        print("stopped before anything was saved")
    return CODE
