"""Reports of a run while it trains: the lines of its logs, and evaluations of held-out images."""

from dataclasses import asdict
from math import inf
from pathlib import Path
from types import TracebackType

from noisekiln.logs.base import Logs, make_logs
from noisekiln.machine.speed import peak_memory, reset_peak_memory
from noisekiln.monitor.binned import BinnedMeans
from noisekiln.monitor.held_out import HeldOutLoss, evaluation_record
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.monitor.throughput import Throughput
from noisekiln.monitor.verdict import Evaluation
from noisekiln.monitor.workload import Workload, measure_workload
from noisekiln.objectives.base import Loss
from noisekiln.plan.settings import Settings
from noisekiln.training.due import AtShares, EverySeconds
from noisekiln.training.report import Report, report_record
from noisekiln.training.trainer import Trainer

BINS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, inf)  # borders between noise-to-signal ratios
GIB = 2.0**30


class Reports:
    """Writes lines to the logs and evaluates held-out images at their intervals; a context that opens the logs.

    Args:
        logs: Logs; empty in all processes except the first.
        trainer: Trainer of a `Learner`, at the checkpoint that the run resumes from.
        held_out: Loss on held-out images.
        copies: Copies of the current and the averaged weights.
        workload: Arithmetic work of training.
        intervals: Intervals of lines and evaluations.

    Attributes:
        throughput: Speed of training and remaining time.
        expected_speed: Images per second on a CPU, before a step was taken; None if unknown.
    """

    def __init__(
        self,
        logs: Logs,
        trainer: Trainer,
        held_out: HeldOutLoss,
        copies: PlainCopies,
        workload: Workload,
        intervals: Intervals,
    ) -> None:
        self._logs = logs
        self._trainer = trainer
        self._held_out = held_out
        self._copies = copies
        self._workload = workload
        self._losses = BinnedMeans(BINS, "loss/nsr")
        self.throughput = Throughput(trainer.budget)
        on_cpu = trainer.placement.device == "cpu" and not trainer.images_seen
        self.expected_speed = workload.expected_speed() if on_cpu else None
        self._line = EverySeconds(intervals.log_seconds, start=-inf)
        self._evaluation = AtShares(intervals.held_out_at, start=trainer.share)
        self._evaluated_at = 0
        held_out.drop_evaluations_after(trainer.images_seen)

    def __enter__(self) -> "Reports":
        self._logs.__enter__()
        reset_peak_memory(self._trainer.placement.device)  # earlier work used memory too
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logs.__exit__(kind, error, trace)

    def add_step(self, report: Report) -> None:
        """Add a step that was applied, and write a line if one is due, or if it is the last step."""
        for loss in self._trainer.losses:
            assert isinstance(loss, Loss)
            self._losses.add(loss.level.nsr, loss.per_sample)
        self.throughput.add(report.seconds, report.images_seen)
        if self._line.due(report.seconds) or report.share >= 1:
            means = self._losses.read(self._trainer.ranks.all_reduce_sum)
            self._logs.write(report_record(report) | rounded(means | self._machine()))

    def add_skipped_step(self, report: Report, reason: str) -> None:
        """Write a line about a step that was not applied."""
        self._logs.write({"images_seen": report.images_seen, "skipped_step": reason})

    def add_score(self, score: dict[str, float], seconds: float) -> None:
        """Write a line about a score of samples, which took so many seconds after the last step."""
        self._logs.write(self._where() | rounded(score))
        self.throughput.leave_out(seconds)

    def evaluate_if_due(self, report: Report) -> Evaluation | None:
        """Evaluate held-out images if it is due; None if it is not, or there are too few images."""
        return self._evaluate() if report.share < 1 and self._evaluation.due(report.share) else None

    def evaluate_at_end(self) -> Evaluation | None:
        """Evaluate once more at the end of the budget, unless no step was taken since the last evaluation."""
        is_new = self._trainer.losses and self._evaluated_at != self._trainer.images_seen
        return self._evaluate() if is_new else None

    @property
    def share_of_peak(self) -> float | None:
        """Mean share of the fastest matrix product that training has reached; None if it is not known."""
        return self._workload.at(self.throughput.mean or 0.0).get("share_of_peak") or None

    def _machine(self) -> dict[str, float]:
        """Speed, remaining time and memory, as far as they are known."""
        device = self._trainer.placement.device
        speed, left, memory = self.throughput.images_per_second, self.throughput.seconds_left, peak_memory(device)
        numbers = {
            "images_per_second": speed,
            "seconds_left": left,
            **(self._workload.at(speed) if speed else {}),
            "memory_gib": None if memory is None else memory / GIB,
        }
        return {name: number for name, number in numbers.items() if number is not None}

    def _evaluate(self) -> Evaluation | None:
        trainer = self._trainer
        seen, share = trainer.images_seen, min(trainer.share, 1.0)
        self._evaluated_at = seen
        evaluation = self._held_out.evaluate(self._copies.averaged().diffusion, seen, share, trainer.ranks)
        if evaluation is not None:
            self._logs.write(self._where() | evaluation_record(evaluation))
        return evaluation

    def _where(self) -> dict[str, float]:
        """How far the run is, as the beginning of a line."""
        trainer = self._trainer
        return {
            "images_seen": trainer.images_seen,
            "seconds": trainer.seconds,
            "share": min(trainer.share, 1.0),
        }


def open_reports(
    folder: Path,
    settings: Settings,
    trainer: Trainer,
    held_out: HeldOutLoss,
    copies: PlainCopies,
    intervals: Intervals,
) -> Reports:
    """The reports of a run, with its logs in the first process.

    Args:
        folder: Folder of the run.
        settings: Resolved settings.
        trainer: Trainer of a `Learner`, at the checkpoint that the run resumes from.
        held_out: Loss on held-out images.
        copies: Copies of the current and the averaged weights.
        intervals: Intervals of lines and evaluations.
    """
    workload = measure_workload(
        copies.trainable(), trainer.batches, settings.device, trainer.precision.dtype, trainer.ranks
    )
    logs = make_logs(settings.curves) if trainer.ranks.is_main else []
    opened = Logs(logs, folder, trainer.images_seen, asdict(settings))
    return Reports(opened, trainer, held_out, copies, workload, intervals)


def rounded(line: dict[str, float]) -> dict[str, float]:
    """Each number rounded to six digits, enough for a log."""
    return {name: float(f"{value:.6g}") for name, value in line.items()}
