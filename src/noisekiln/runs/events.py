"""Events that training passes to a watcher, in order."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from noisekiln.data import DataSet
from noisekiln.monitor.verdict import Evaluation, Verdict
from noisekiln.plan.settings import Settings
from noisekiln.training.trainer import Report

Why = Literal["done", "stopped", "finished before"]


@dataclass(frozen=True)
class Reading:
    """Images are being read.

    Attributes:
        done: Images read.
        total: Images in all.
    """

    done: int
    total: int


@dataclass(frozen=True)
class DataRead:
    """All images are read.

    Attributes:
        data: The images, with notes on what was understood of them.
    """

    data: DataSet


@dataclass(frozen=True)
class Plan:
    """What will be trained.

    Attributes:
        folder: Folder of the run.
        settings: Resolved settings.
        data: The images.
        parameters: Number of trained parameters.
        images_seen: Images seen before; 0 for a new run.
        seconds: Seconds of training before.
        share: Share of the budget that is spent.
        notes: What a user should know of how the run starts, one line each.
        verdict: Verdict on the run so far, if it is resumed and has one.
    """

    folder: Path
    settings: Settings
    data: DataSet
    parameters: int
    images_seen: int
    seconds: float
    share: float
    notes: tuple[str, ...]
    verdict: Verdict | None


@dataclass(frozen=True)
class Note:
    """Something unusual: a damaged checkpoint, a step that was skipped, too little memory, a failed compilation.

    Attributes:
        text: One line of text.
    """

    text: str


@dataclass(frozen=True)
class Grid:
    """A grid of samples was drawn.

    Attributes:
        file: The image.
    """

    file: Path


@dataclass(frozen=True)
class HeldOut:
    """Held-out images were evaluated.

    Attributes:
        evaluation: Their errors.
        verdict: What all evaluations so far say; None while they are too few.
    """

    evaluation: Evaluation
    verdict: Verdict | None


@dataclass(frozen=True)
class Saving:
    """A checkpoint and the averaged model are being written in the background.

    Attributes:
        images_seen: Images seen by them.
    """

    images_seen: int


@dataclass(frozen=True)
class Step:
    """A step was taken, and all that was due after it is done: a consumer may stop here, and call `Run.save`.

    Attributes:
        report: Where training stands.
    """

    report: Report


@dataclass(frozen=True)
class End:
    """Training has ended, and all is saved.

    Attributes:
        why: "done"; "stopped" by a signal; "finished before": the budget was spent when the run was opened.
        folder: Folder of the run.
        images_seen: Images seen in all.
        seconds: Seconds of training in all.
        skipped_steps: Steps that were skipped since the start, because loss or gradient were not finite.
        signal: Number of the signal that stopped it, or 0.
        verdict: Verdict on the run, if there is one.
    """

    why: Why
    folder: Path
    images_seen: int
    seconds: float
    skipped_steps: int
    signal: int
    verdict: Verdict | None


Event = Reading | DataRead | Plan | Note | Grid | HeldOut | Saving | Step | End
