"""Progress of an evaluation as a bar, and its report as a table."""

import signal
from typing import Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from noisekiln.cli._show import console, say
from noisekiln.evaluation.compute import EvaluationProgress
from noisekiln.evaluation.evaluation_report import PAGE_FILE, EvaluationReport
from noisekiln.machine.interrupt import exit_code
from noisekiln.runs.evaluate import evaluate

INTERRUPTED = "stopped: the samples so far are kept, and the same command goes on from them"


def evaluate_with_bar(source: Any, **options: Any) -> EvaluationReport:
    """Evaluate with a bar on the terminal; after Ctrl-C, one line, and exit code 130."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        row = bar.add_task("reading images", total=None)
        last = ""

        def watch(progress: EvaluationProgress) -> None:
            nonlocal last
            if progress.part != last:
                bar.reset(row, description=progress.part)
                last = progress.part
            bar.update(row, completed=progress.done, total=progress.total)

        try:
            return evaluate(source, watch=watch, **options)
        except KeyboardInterrupt:
            bar.stop()
            say(INTERRUPTED)
            raise typer.Exit(exit_code(signal.SIGINT)) from None


def say_report(report: EvaluationReport, place: Any) -> None:
    """Print the table, the conclusions and the notes."""
    table = Table(box=None, pad_edge=False)
    raw = bool(report.raw_scores)
    for head in ("", "samples", "real images", *(["last step"] if raw else [])):
        table.add_column(head, justify="left" if not head else "right")
    for row in report.rows():
        table.add_row(*(row if raw else row[:3]))
    console.print(table)
    for each in report.conclusions:
        say(f"{each.question}: {each.grade}. {each.text}")
    for note in report.notes:
        say(f"note: {note}")
    say(f"look at {place / PAGE_FILE}")
