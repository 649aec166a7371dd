"""Ctrl-C while a command has not begun to save anything: one line, and exit code 130."""

from collections.abc import Callable
from functools import wraps

import typer

from noisekiln.distributed import torchrun

CODE = 130


def stoppable(command: Callable[..., None]) -> Callable[..., None]:
    """A command that Ctrl-C ends with a line; one that has saved something says itself what, and exits."""

    @wraps(command)
    def run(**values: object) -> None:
        try:
            command(**values)
        except KeyboardInterrupt:
            raise typer.Exit(stopped_before_saving()) from None

    return run


def stopped_before_saving() -> int:
    """Print the line, in the main process only, and return the exit code."""
    if torchrun.rank() == 0:
        print("stopped before anything was saved")
    return CODE
