"""Progress of sampling: a bar, a preview, and a line on finished images after an interruption."""

import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import closing

import torch
import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from noisekiln.cli._show import console, say
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import counted, printable
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.model.sampling import Progress
from noisekiln.session.live_preview import LivePreview
from noisekiln.session.session import Session

FIRST_LINE = 10.0  # seconds before the first line on progress where there is no terminal for a bar


def show(progress: Iterator[Progress], session: Session, ranks: Ranks = Ranks()) -> None:
    """Show a bar and write a preview while a session generates and writes images, then print their folder.

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
            row, lines = bar.add_task("sampling", total=None), _Lines(LivePreview(session.results))
            for each in steps:
                bar.update(row, total=each.steps, completed=each.step)
                count = each.count
                if ranks.is_main:
                    lines.after(each)
                if each.step < each.steps and (stopped_by := _signal_of_any(interrupt, ranks)):
                    break
    except KeyboardInterrupt:  # the second Ctrl-C
        stopped_by = signal.SIGINT
    if stopped_by:
        say(f"stopped: {_finished_images(session, count)}")
        raise typer.Exit(exit_code(stopped_by))
    say(f"{counted(count, 'image')} in {folder}; look at {folder / 'grid.png'}")


class _Lines:
    """The lines on a preview: once where it is; without a terminal a line on progress, ever more rarely.

    Args:
        preview: The preview, which is updated.
    """

    def __init__(self, preview: LivePreview) -> None:
        self.preview = preview
        self._start = time.monotonic()
        self._due = FIRST_LINE
        self._is_written = False

    def after(self, progress: Progress) -> None:
        """Update the preview after a step, and print a line if it is time for one."""
        is_first = self.preview.update(progress) and not self._is_written
        self._is_written |= is_first
        if console.is_terminal:
            if is_first:
                say(f"preview: {self.preview.file}")
            return
        seconds = time.monotonic() - self._start
        if seconds >= self._due and not progress.finished:
            self._due = 2 * seconds
            where = f", preview: {self.preview.file}" if self._is_written else ""
            line = f"sampling: {progress.step} of {progress.steps} steps{where}"
            print(printable(line), file=sys.stderr, flush=True)  # not into the output of a pipe


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
