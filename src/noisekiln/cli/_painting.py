"""Progress of sampling: a bar, and what is kept when it is interrupted."""

import signal
from collections.abc import Generator, Iterator
from contextlib import closing

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from noisekiln.cli._show import console, say
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.sampling import Progress
from noisekiln.session.session import Session


def show(progress: Iterator[Progress], session: Session) -> None:
    """Draw a bar while a session generates and writes images, and say where they are.

    After Ctrl-C or SIGTERM the current step is finished, one line says what is kept, and the command exits with 130 or
    143; a second Ctrl-C stops at once.

    Args:
        progress: What the session returns.
        session: The session.
    """
    folder, count = session.results.path, 0
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Interrupt() as interrupt,
        closing(_as_generator(progress)) as steps,
        Bar(*columns, console=console, disable=not console.is_terminal) as bar,
    ):
        row = bar.add_task("sampling", total=None)
        for each in steps:
            bar.update(row, total=each.steps, completed=each.step)
            count = each.count
            if interrupt.signal is not None and each.step < each.steps:
                break
        else:
            interrupt.signal = None  # nothing was left to stop
    if interrupt.signal is not None:
        say(f"stopped: {_kept(session, count)}")
        raise typer.Exit(130 if interrupt.signal == signal.SIGINT else 143)
    images = "1 image" if count == 1 else f"{count} images"
    say(f"{images} in {folder}; look at {folder / 'grid.png'}")


def _kept(session: Session, count: int) -> str:
    finished, folder = session.results.count, session.results.path
    if not finished:
        return "no image was finished, so nothing was written"
    return f"{finished} of {count} images are finished, and kept in {folder}"


def _as_generator(progress: Iterator[Progress]) -> Generator[Progress]:
    """The same, closed together with what it passes on."""
    yield from progress
