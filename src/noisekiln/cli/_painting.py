"""While pictures are painted: a bar, and how it is stopped."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from noisekiln.cli._show import console, say
from noisekiln.machine.interrupt import Interrupt


class Stopped(Exception):
    """Somebody asked to stop, and the step that was being taken is done."""


@contextmanager
def painting(steps: int, kept: Callable[[int], str]) -> Iterator[Callable[[], None]]:
    """A bar of so many steps; what it yields is to be called after each of them.

    After Ctrl-C or SIGTERM the step is finished, one line says what is kept, and the command ends with 130 or 143; a
    second one stops at once.

    Args:
        steps: In all.
        kept: Says what is kept when so many steps were taken.
    """
    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    taken = 0
    with Interrupt() as interrupt, Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        row = bar.add_task("painting", total=steps)

        def step_done() -> None:
            nonlocal taken
            if interrupt.signal is not None and taken + 1 < steps:  # after the last there is nothing left to stop
                raise Stopped
            taken += 1
            bar.advance(row)

        try:
            yield step_done
        except Stopped:
            say(f"stopped: {kept(taken)}")
            raise typer.Exit(130 if interrupt.signal == signal.SIGINT else 143) from None
