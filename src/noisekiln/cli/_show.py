"""What the commands show while they work."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from noisekiln.training.trainer import Report

speaks = os.environ.get("RANK", "0") == "0"  # of several processes the first one speaks


class Listener(Console):
    """A terminal, or a program that may stop reading: then nothing more is said, and the work goes on."""

    def on_broken_pipe(self) -> None:
        """Say nothing more, and end nothing (rich would end the program)."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


console = Listener(highlight=False, soft_wrap=True, quiet=not speaks)
LINE_EVERY = 15.0  # seconds between lines where there is no terminal to draw a bar in


def say(text: str) -> None:
    """A line for the person at the terminal."""
    console.print(text, markup=False)


def watch(reports: Iterable[Report], title: str, verdict: Callable[[], str]) -> Iterator[Report]:
    """Pass the reports on, and show them: a bar in a terminal, a line now and then elsewhere.

    Args:
        reports: Of training.
        title: What is trained.
        verdict: Returns a word on held-out images, or "" while there is none.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[told]}"), TimeRemainingColumn())
    loss = speed = 0.0
    before: Report | None = None
    shown = time.monotonic()
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=60) as bar:
        task = bar.add_task(title, total=1.0, told="")
        for report in reports:
            loss = report.loss if before is None else 0.98 * loss + 0.02 * report.loss
            if before is not None and report.seconds > before.seconds:
                now = (report.images_seen - before.images_seen) / (report.seconds - before.seconds)
                speed = now if speed == 0 else 0.95 * speed + 0.05 * now
            before = report
            pace = f" · {speed:,.0f}/s" if speed else ""
            told = f"{report.share:4.0%} · {report.images_seen:,} images{pace} · loss {loss:.4f}"
            told += f" · {word}" if (word := verdict()) else ""
            bar.update(task, completed=report.share, told=told)
            if not console.is_terminal and time.monotonic() - shown > LINE_EVERY:
                shown = time.monotonic()
                left = report.seconds * (1 / report.share - 1) if report.share > 0 else 0.0
                say(f"{told} · {left:.0f} s left" if report.seconds else told)
            yield report
