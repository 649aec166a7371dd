"""What a run tells of itself while it trains."""

from dataclasses import asdict
from pathlib import Path
from types import TracebackType

import torch

from noisekiln.logs.base import Logs, open_logs
from noisekiln.machine.flops import count_flops
from noisekiln.machine.speed import peak_flops_per_second, peak_memory, reset_peak_memory
from noisekiln.monitor.binned import Binned
from noisekiln.monitor.held_out import AT, HeldOut
from noisekiln.monitor.pace import Pace
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.objectives.base import Loss
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.batches import BatchSource
from noisekiln.training.trainer import Report, Trainer, as_line

BINS = (0.0, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, float("inf"))  # borders between noise-to-signal ratios
GIB = 2.0**30


class Reports:
    """Lines for the logs, and held-out losses at their times; used in a `with`, which closes the logs.

    Args:
        folder: Of the run.
        settings: Resolved ones.
        trainer: Of a `Learner`, at the checkpoint that the run goes on from.
        held_out: Evaluates now and then.
        copies: Of what is trained.
        every: Seconds from line to line.
    """

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        trainer: Trainer,
        held_out: HeldOut,
        copies: PlainCopies,
        every: float,
    ) -> None:
        self.settings, self.trainer, self.held_out, self.copies = settings, trainer, held_out, copies
        self.every = every
        self.losses = Binned(BINS, "loss/nsr")
        self.pace = Pace(trainer.budget)
        self.flops = flops_per_image(copies.fresh(), trainer.batches)
        self.peak = peak_flops_per_second(settings.device, trainer.precision.dtype)
        reset_peak_memory(settings.device)  # what has just been measured took some, too
        held_out.forget_after(trainer.images_seen)
        self._written, self._evaluated, self._evaluated_at = -every, trainer.share, 0
        first = trainer.ranks.is_main  # the others evaluate their share, and write nothing
        self._logs = open_logs(settings.curves, folder, trainer.images_seen, asdict(settings)) if first else Logs([])

    def __enter__(self) -> "Reports":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._logs.__exit__(kind, error, trace)

    def take(self, report: Report, diagnose: str = "") -> None:
        """Take in a step that was just made; write a line if it is time for one, evaluate if it is time for that.

        Args:
            report: Of the step.
            diagnose: Why it came to nothing, if it did.
        """
        if diagnose:
            self._logs.write({"images_seen": report.images_seen, "not_taken": diagnose})
            return
        for loss in self.trainer.losses:
            assert isinstance(loss, Loss)
            self.losses.take(loss.level.nsr, loss.per_sample)
        self.pace.take(report.seconds, report.images_seen)
        if report.seconds - self._written >= self.every:
            self._written = report.seconds
            self._logs.write(
                as_line(report) | rounded(self.losses.means(self.trainer.ranks.all_reduce_sum) | self._machine())
            )
        if any(self._evaluated < share <= report.share < 1 for share in AT):
            self._evaluate()

    def finish(self) -> None:
        """The budget is spent: evaluate a last time."""
        if self.trainer.losses and self._evaluated_at != self.trainer.images_seen:
            self._evaluate()

    def _machine(self) -> dict[str, float]:
        speed, memory = self.pace.images_per_second, peak_memory(self.settings.device)
        told = {"images_per_second": speed, "seconds_left": self.pace.seconds_left}
        if speed and self.flops:
            told["flops_per_second"] = speed * self.flops
            if self.peak:
                told["share_of_peak"] = speed * self.flops / self.peak / self.trainer.ranks.world_size
        told["memory_gib"] = None if memory is None else memory / GIB
        return {name: value for name, value in told.items() if value is not None}

    def _evaluate(self) -> None:
        trainer = self.trainer
        self._evaluated, self._evaluated_at = trainer.share, trainer.images_seen
        averaged = self.copies.averaged().diffusion
        seen, share = trainer.images_seen, min(trainer.share, 1.0)
        found = self.held_out.evaluate(averaged, seen, share, trainer.ranks)
        if found is not None:
            where = {"images_seen": seen, "seconds": trainer.seconds, "share": share}
            self._logs.write(where | rounded(found))


def flops_per_image(trained: Learner, batches: BatchSource) -> float | None:
    """Floating-point operations of training on one image, forward and backward; None where they cannot be counted.

    Args:
        trained: A copy, which is left with gradients.
        batches: Of which the first two rows are taken.
    """
    rows = batches(0, 2, torch.Generator().manual_seed(0))
    counted = count_flops(lambda: trained(*rows).value)
    return None if counted is None else counted / 2


def rounded(line: dict[str, float]) -> dict[str, float]:
    """Six digits of each number: enough for a log."""
    return {name: float(f"{value:.6g}") for name, value in line.items()}
