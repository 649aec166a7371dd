"""Events of a training run, in the order in which a watcher receives them."""

from dataclasses import dataclass
from pathlib import Path

from noisekiln.data import DataSet
from noisekiln.monitor.measure import Measurement
from noisekiln.monitor.verdict import Evaluation, Verdict
from noisekiln.plan.settings import Settings
from noisekiln.runs.codec_events import CodecEnd, CodecPlan, Reconstructions
from noisekiln.runs.ending import Why
from noisekiln.training.report import Report


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
        data: Data set, with notes on how it was interpreted.
    """

    data: DataSet


@dataclass(frozen=True)
class Encoding:
    """Images are encoded by a codec, before a model of its latents is trained.

    Attributes:
        done: Images encoded, mirror images among them.
        total: Images in all, mirror images among them.
    """

    done: int
    total: int


@dataclass(frozen=True)
class Plan:
    """Plan of a run: what will be trained.

    Attributes:
        folder: Folder of the run.
        settings: Resolved settings.
        data: The images.
        parameters: Number of trained parameters.
        images_seen: Images seen before this start; 0 for a new run.
        seconds: Seconds of training before this start.
        share: Share of the budget that is used.
        notes: Notes for the user about the start of the run, one line each.
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
class Stage:
    """A stage starts, or resumes: of a cascade, or of latent diffusion, whose first stage is the codec.

    Attributes:
        number: 1 for the first, which for a cascade generates the smallest images.
        count: Number of stages.
        size: Height and width of its images.
        title: What it is, in a few words.
    """

    number: int
    count: int
    size: tuple[int, int]
    title: str


@dataclass(frozen=True)
class Measured:
    """The time and memory of training were measured, by a few real steps.

    Attributes:
        plan: Plan of what was measured.
        measurement: What was found.
    """

    plan: Plan | CodecPlan
    measurement: Measurement


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
class Epoch:
    """An epoch of a run with a budget in epochs has ended.

    Attributes:
        number: Epochs done, 1 ... epochs.
        epochs: Epochs of the budget.
        images_seen: Images seen in all.
        seconds: Seconds of training in all.
        loss: Mean loss of its steps; None if none of them was applied.
    """

    number: int
    epochs: int
    images_seen: int
    seconds: float
    loss: float | None


@dataclass(frozen=True)
class HeldOut:
    """Held-out images were evaluated.

    Attributes:
        evaluation: Errors of the images.
        verdict: Verdict on all evaluations so far; None while they are too few.
    """

    evaluation: Evaluation
    verdict: Verdict | None


@dataclass(frozen=True)
class Score:
    """Samples of the averaged weights were compared with images of the data; lower is better.

    Attributes:
        images_seen: Images seen by the weights.
        samples: Number of samples.
        against: Images and features: "2,000 training images by efficientnet".
        kid: Kernel distance of their features, an unbiased estimate.
        kid_error: Its standard error.
        mind: Sliced Wasserstein distance of their features, by which weights are compared.
        is_best: Whether these are the best weights of the run so far, which are kept in `model-best/`.
    """

    images_seen: int
    samples: int
    against: str
    kid: float
    kid_error: float
    mind: float
    is_best: bool


@dataclass(frozen=True)
class Saving:
    """A checkpoint and the averaged model are being written in the background.

    Attributes:
        images_seen: Images seen by the saved state.
    """

    images_seen: int


@dataclass(frozen=True)
class Step:
    """A step and all actions due after it are done: a consumer may stop here and call `Run.save`.

    Attributes:
        report: State of training.
        images_per_second: Speed over the last ten seconds; None before the second step.
        seconds_left: Seconds until the budget is used up at this speed; None while that is unknown.
    """

    report: Report
    images_per_second: float | None
    seconds_left: float | None


@dataclass(frozen=True)
class End:
    """Training has ended, and everything is saved.

    Attributes:
        why: "done"; "stopped" by a signal; "finished before": the budget was used up when the run was opened.
        folder: Folder of the run.
        images_seen: Images seen in all.
        seconds: Seconds of training in all.
        skipped_steps: Steps skipped since this start, because loss or gradient were not finite.
        signal: Number of the signal that stopped the run, or 0.
        verdict: Verdict on the run, if there is one.
        why_no_verdict: Why there is none, as the end of a sentence.
        undertrained: What samples show so early, and which budget would be enough, in one line; "" if this was.
        best: Score of the weights in `model-best/`, if the run keeps them.
        stages: Folders of the stages of a cascade, each a run; empty for a single model.
        codec: Folder of the codec that the run has trained, or copied; None for pixels.
        share_of_peak: Mean share of the fastest matrix product here that the steps since this start have reached.
    """

    why: Why
    folder: Path
    images_seen: int
    seconds: float
    skipped_steps: int
    signal: int
    verdict: Verdict | None
    why_no_verdict: str = ""
    undertrained: str = ""
    best: Score | None = None
    stages: tuple[Path, ...] = ()
    codec: Path | None = None
    share_of_peak: float | None = None


Event = (
    Reading | DataRead | Stage | CodecPlan | Plan | Measured | Note | Encoding | Grid | Reconstructions | Epoch
    | HeldOut | Score | Saving | Step | CodecEnd | End
)  # fmt: skip
