"""Progress of training on the terminal: a bar, and lines for events."""

import signal
from datetime import timedelta
from functools import singledispatchmethod
from types import TracebackType
from typing import Self

import typer
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from noisekiln.cli._codec_lines import describe_codec_end, describe_codec_plan, describe_reconstructions
from noisekiln.cli._plan import describe_data, describe_measurement, describe_plan
from noisekiln.cli._show import command_line, console, say
from noisekiln.errors import counted
from noisekiln.machine.interrupt import exit_code
from noisekiln.runs.codec_events import CodecEnd, CodecPlan, Reconstructions
from noisekiln.runs.events import (  # fmt: skip
    DataRead,
    Encoding,
    End,
    Epoch,
    Event,
    Grid,
    HeldOut,
    Measured,
    Note,
    Plan,
    Reading,
    Saving,
    Score,
    Stage,
    Step,
)
from noisekiln.training.due import EverySeconds

MANY_EPOCHS = 100  # of more, at most one line a second is printed


class Watcher:
    """Shows events on the terminal; used in a `with`, which ends the bar.

    Args:
        line_seconds: Seconds of training between lines if the output is not a terminal, which could show a bar.

    Attributes:
        plan: Plan of the training, after its event.
    """

    plan: Plan | CodecPlan

    def __init__(self, *, line_seconds: float = 15.0) -> None:
        self._reading = _bar(transient=True)
        self._training = _bar()
        self._task: TaskID | None = None
        self._line = EverySeconds(line_seconds)
        self._epoch_line = EverySeconds(1.0)  # of more than MANY_EPOCHS
        self._loss: float | None = None  # averaged over recent steps
        self._steps = 0  # in this average
        self._trend = ""
        self._reconstructions: Reconstructions | None = None  # the last ones
        self._drawn = self._scored = self._saved = self._ended = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._reading.stop()
        self._training.stop()
        if kind is KeyboardInterrupt and self._saved:
            if not self._ended:  # the second Ctrl-C
                say("stopped at once; what was saved before is intact")
            raise typer.Exit(exit_code(signal.SIGINT)) from None

    @singledispatchmethod
    def __call__(self, event: Event) -> None:
        """Show an event."""

    @__call__.register
    def _(self, event: Saving) -> None:
        self._saved = True

    @__call__.register
    def _(self, event: Reading) -> None:
        self._show_progress("reading images", event.done, event.total)

    @__call__.register
    def _(self, event: Encoding) -> None:
        self._show_progress("encoding images", event.done, event.total)
        if event.done == event.total:
            self._reading.stop()

    def _show_progress(self, what: str, done: int, total: int) -> None:
        """Show what is done with images before training, on a bar that goes away."""
        if all(task.description != what for task in self._reading.tasks):
            for task in self._reading.tasks:  # what was done before
                self._reading.remove_task(task.id)
            self._reading.add_task(what, text="")
            self._reading.start()
        self._reading.update(self._reading.tasks[-1].id, completed=done, total=total)

    @__call__.register
    def _(self, event: DataRead) -> None:
        self._reading.stop()
        for line in describe_data(event.data):
            say(line)

    @__call__.register
    def _(self, event: Stage) -> None:
        self._training.stop()
        self._training, self._task = _bar(), None  # a bar of its own for each stage
        self._loss, self._steps = None, 0
        say(f"stage {event.number} of {event.count}: {event.title}")

    @__call__.register
    def _(self, event: Measured) -> None:
        for line in describe_measurement(event.plan, event.measurement):
            say(line)

    @__call__.register
    def _(self, event: Plan) -> None:
        self.plan, self._saved = event, event.images_seen > 0
        self._line.restart(event.seconds)
        self._trend = event.verdict.trend if event.verdict else ""
        for line in describe_plan(event):
            say(line)

    @__call__.register
    def _(self, event: CodecPlan) -> None:
        self.plan, self._saved = event, event.images_seen > 0
        self._trend = ""
        self._line.restart(event.seconds)
        for line in describe_codec_plan(event):
            say(line)

    @__call__.register
    def _(self, event: Reconstructions) -> None:
        self._reconstructions = event
        say(describe_reconstructions(event))

    @__call__.register
    def _(self, event: CodecEnd) -> None:
        self._ended = True
        self._training.stop()
        for line in describe_codec_end(event, self._reconstructions):
            say(line)

    @__call__.register
    def _(self, event: Note) -> None:
        say(f"note: {event.text}")

    @__call__.register
    def _(self, event: HeldOut) -> None:
        self._trend = event.verdict.trend if event.verdict else ""

    @__call__.register
    def _(self, event: Step) -> None:
        report = event.report
        if self._task is None:
            self._task = self._training.add_task(self.plan.folder.name, total=1.0, text="")
            self._training.start()
        if report.applied:
            self._average(report.loss)
        text = describe_step(event, self._loss, self._trend)
        self._training.update(self._task, completed=report.share, text=text)
        if self._line.due(report.seconds) and not console.is_terminal:
            say(text)

    def _average(self, loss: float) -> None:
        """Over about the last fifth of a short run, and the last 50 steps of a long one: losses fall fast at first."""
        self._steps += 1
        before = loss if self._loss is None else self._loss
        self._loss = before + max(0.02, 5 / (self._steps + 4)) * (loss - before)

    @__call__.register
    def _(self, event: Grid) -> None:
        if not self._drawn:  # where to look; more follow there
            self._drawn = True
            say(f"{'next' if self.plan.images_seen else 'first'} grid of samples: {event.file}")

    @__call__.register
    def _(self, event: Score) -> None:
        say(describe_score(event, first=not self._scored))
        self._scored = True

    @__call__.register
    def _(self, event: Epoch) -> None:
        often = event.epochs > MANY_EPOCHS and event.number < event.epochs
        if not often or self._epoch_line.due(event.seconds):
            say(describe_epoch(event, self._trend))

    @__call__.register
    def _(self, event: End) -> None:
        self._ended = True
        self._training.stop()
        for line in describe_end(event):
            say(line)


def _bar(*, transient: bool = False) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[text]}"))
    return Progress(*columns, console=console, disable=not console.is_terminal, transient=transient)


def describe_step(step: Step, loss: float | None, trend: str) -> str:
    """Progress of training after a step, in one line.

    Args:
        step: The event.
        loss: Mean loss of recent steps; None if none of them was applied.
        trend: Trend of the held-out loss; "" while it is unknown.
    """
    report, speed, left = step.report, step.images_per_second, step.seconds_left
    parts = [
        f"{report.share:4.0%}",
        f"{counted(report.images_seen, 'image')}",
        f"{speed:,.0f}/s" if speed else "",
        "" if loss is None else f"loss {loss:.4f}",
        trend,
        f"{timedelta(seconds=round(left))} left" if left else "",
    ]
    return " · ".join(filter(None, parts))


def describe_epoch(epoch: Epoch, trend: str) -> str:
    """The end of an epoch, in one line.

    Args:
        epoch: The event.
        trend: Trend of the held-out loss; "" while it is unknown.
    """
    parts = [
        f"epoch {epoch.number} of {epoch.epochs}",
        f"{counted(epoch.images_seen, 'image')}",
        "" if epoch.loss is None else f"loss {epoch.loss:.4f}",
        trend,
    ]
    return " · ".join(filter(None, parts))


def describe_score(score: Score, *, first: bool = False) -> str:
    """A score of samples, in one line.

    Args:
        score: The event.
        first: Whether to say what was compared.
    """
    distances = f"KID {score.kid:.4g} ± {score.kid_error:.2g}, MIND {score.mind:.4g}"
    compared = f" ({counted(score.samples, 'sample')} against {score.against})" if first else ""
    best = " (best so far)" if score.is_best else ""
    return f"score after {counted(score.images_seen, 'image')}: {distances}{best}{compared}"


def describe_end(end: End) -> list[str]:
    """The end of training, in lines."""
    if end.why == "finished before":
        return ["The budget of this run is used up. Give a larger budget to resume it, or another `out` for a new run."]
    if end.why == "stopped":
        seen = f"stopped after {counted(end.images_seen, 'image')}"
        return [f"{seen}; all is saved in {end.folder}. To resume:", f"  {command_line()}"]
    share = end.share_of_peak
    known = share is not None and share <= 1  # above, something else was running when the product was timed
    speed = f", at {share:.0%} of the fastest matrix product here" if known else ""
    lines = [f"done: {counted(end.images_seen, 'image')} in {end.seconds / 60:.1f} minutes{speed}"]
    if end.skipped_steps:
        steps = counted(end.skipped_steps, "step was", "steps were")
        lines.append(f"{steps} skipped (non-finite loss or gradient; see metrics.jsonl); a lower `lr` may help")
    verdict = f"no verdict: {end.why_no_verdict}" if end.verdict is None else end.verdict.advice
    lines += [f"held-out images: {verdict}", f"  grids  {end.folder / 'samples'}"]
    if end.stages:
        lines += [f"  stages {end.stages[0]}, {', '.join(stage.name for stage in end.stages[1:])}: a run each"]
    else:
        lines += [f"  plots  {end.folder / 'loss.png'}, data.png, forward.png, denoising.gif"]
    lines += [*([f"  codec  {end.codec}"] if end.codec else []), f"  model  {end.folder / 'model'}"]
    if end.best is not None:
        after = counted(end.best.images_seen, "image")
        lines += [f"  best   {end.folder / 'model-best'}, after {after}: MIND {end.best.mind:.4g}"]
    return [*lines, f"note: {end.undertrained}"] if end.undertrained else lines
