"""Progress of sampling: a bar, and a line on finished images after an interruption."""

import signal
from collections.abc import Generator, Iterator
from contextlib import closing

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from noisekiln.cli._show import console, say
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import counted
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.model.sampling import Progress
from noisekiln.session.session import Session


def show(progress: Iterator[Progress], session: Session, ranks: Ranks = Ranks()) -> None:
    """Show a bar while a session generates and writes images, then print their folder.

    After Ctrl-C or SIGTERM the current step is finished, one line names the finished images, and the command exits with
    130 or 143; a second Ctrl-C stops at once. A signal to one process stops all of them after the same step.

    Args:
        progress: Progress of the images, from the session.
        session: The session.
        ranks: The processes that share the work; each calls this.
    """
    folder, count, stopped_by = session.results.path, 0, 0
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    try:
        with (
            Interrupt() as interrupt,
            closing(_as_generator(progress)) as steps,
            Bar(*columns, console=console, disable=not console.is_terminal) as bar,
        ):
            row = bar.add_task("sampling", total=None)
            for each in steps:
                bar.update(row, total=each.steps, completed=each.step)
                count = each.count
                if each.step < each.steps and (stopped_by := _signal_of_any(interrupt, ranks)):
                    break
    except KeyboardInterrupt:  # the second Ctrl-C
        stopped_by = signal.SIGINT
    if stopped_by:
        say(f"stopped: {_finished_images(session, count)}")
        raise typer.Exit(exit_code(stopped_by))
    say(f"{counted(count, 'image')} in {folder}; look at {folder / 'grid.png'}")


def _signal_of_any(interrupt: Interrupt, ranks: Ranks) -> int:
    """The signal that this or another process has received, the same number in all of them; 0 for none."""
    return int(ranks.all_gather(torch.tensor([interrupt.signal]), ranks.world_size).max())


def _finished_images(session: Session, count: int) -> str:
    finished, folder = session.results.count, session.results.path
    if not finished:
        return "no image was finished, so nothing was written"
    return f"{finished} of {count} images are finished, and saved in {folder}"


def _as_generator(progress: Iterator[Progress]) -> Generator[Progress]:
    """A generator that closes `progress` when it is closed."""
    yield from progress
