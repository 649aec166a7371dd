"""Failures of a run, turned into errors that say where they happened and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

from noisekiln.data import DataSet
from noisekiln.errors import BatchTooLarge, CompileFailed, Diverged
from noisekiln.monitor.diagnosis import diagnose
from noisekiln.plan.settings import Settings
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints
from noisekiln.training.background import Background
from noisekiln.training.trainer import Report, Trainer


class Failures:
    """What is said when a run diverges, or runs out of memory for good.

    Args:
        folder: Folder of the run.
        settings: Resolved settings.
        data: The images.
        trainer: Trainer of a `Learner`.
        background: Writes the run's files.
    """

    def __init__(
        self, folder: RunFolder, settings: Settings, data: DataSet, trainer: Trainer, background: Background
    ) -> None:
        self.folder, self.settings, self.data = folder, settings, data
        self.trainer, self.background = trainer, background

    def reason(self, report: Report) -> str:
        """Why a step was skipped. All processes call it."""
        if self.settings.precision == "fp16" and isfinite(report.loss):
            return "the gradient is too large for fp16, so the loss scale is lowered"
        return diagnose(self.trainer, self.data, self.settings.seed)

    @contextmanager
    def explaining_divergence(self) -> Iterator[None]:
        """Add to `Diverged` where the error was largest, what is kept, and what to do."""
        try:
            yield
        except Diverged as error:
            self.background.wait()
            saved = checkpoints.counts(self.folder.checkpoints)
            kept = "keeps the last checkpoint" if saved else "holds no checkpoint yet"
            where = diagnose(self.trainer, self.data, self.settings.seed)
            raise Diverged(
                f"{error}; {where}. Nothing of it was saved: {self.folder.path} {kept}. "
                "Take a lower `lr` and another `out`, and look at the data.",
                error.losses,
            ) from None

    @contextmanager
    def explaining_lack_of_memory(self) -> Iterator[None]:
        """Turn `BatchTooLarge`, raised over sharded weights alone, into what to do.

        A step with sharded weights cannot be begun anew; a record has the run begin with a smaller micro-batch.
        """
        try:
            yield
        except BatchTooLarge as error:
            size = self.trainer.micro_batch_size
            if size == 1:
                raise ValueError(
                    "Not even one image fits into memory with this network, sharded as it is. "
                    "Take a smaller `model` or `size`, or more processes."
                ) from error
            half = -(-size // 2)
            self.folder.limit_micro_batch(half)
            raise ValueError(
                f"Memory ran out in process {self.trainer.ranks.rank}, with a micro-batch of {size} images. "
                "With sharded weights training cannot go on from there. "
                f"Run the same again: the micro-batch is {half} then, with the same result."
            ) from error

    @contextmanager
    def explaining_failed_compilation(self) -> Iterator[None]:
        """Turn `CompileFailed`, raised over sharded weights alone, into what to do."""
        try:
            yield
        except CompileFailed as error:
            raise ValueError(
                f"The network cannot be compiled: {error}. With sharded weights training cannot go on from there. "
                "Give `compile=no`."
            ) from error
