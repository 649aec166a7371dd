"""Failures of a run, turned into errors that say where they happened and what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import isfinite

from noisekiln.data import DataSet
from noisekiln.errors import BatchTooLarge, CompileFailed, Diverged, NotFinite, counted
from noisekiln.monitor.diagnosis import diagnose
from noisekiln.plan.settings import Settings
from noisekiln.runs.run_folder import RunFolder
from noisekiln.training import checkpoints
from noisekiln.training.background import BackgroundWriter
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer


class Failures:
    """Error messages of a run that diverges, runs out of memory or cannot be compiled.

    Args:
        folder: Folder of the run.
        settings: Resolved settings.
        data: The images.
        trainer: Trainer of a `Learner`.
        background: Writes the run's files.
    """

    def __init__(
        self, folder: RunFolder, settings: Settings, data: DataSet, trainer: Trainer, background: BackgroundWriter
    ) -> None:
        self.folder = folder
        self.settings = settings
        self.data = data
        self.trainer, self.background = trainer, background

    def reason(self, report: Report) -> str:
        """Reason why a step was skipped. All processes call this."""
        if self.settings.precision == "fp16" and isfinite(report.loss):
            return "the gradient is too large for fp16, so the loss scale is lowered"
        return diagnose(self.trainer, self.data, self.settings.seed)

    def check_finite(self) -> None:
        """Raise Diverged before NaN or infinite weights are used."""
        with self.explaining_divergence():
            self.trainer.check_finite()

    @contextmanager
    def explaining_divergence(self) -> Iterator[None]:
        """Add to `Diverged` where the error was largest, what was saved, and what to do; samples may show it first."""
        try:
            with self._samples_as_divergence():
                yield
        except Diverged as error:
            self.background.wait()
            saved = checkpoints.list_images_seen(self.folder.checkpoints)
            kept = "keeps the last checkpoint" if saved else "holds no checkpoint yet"
            where = diagnose(self.trainer, self.data, self.settings.seed)
            raise Diverged(
                f"{error.what}; {where}. These weights were not saved: {self.folder.path} {kept}",
                error.losses,
                remedy="Use a lower `lr` and another `out`, and check the data",
            ) from None

    @contextmanager
    def _samples_as_divergence(self) -> Iterator[None]:
        """Convert `NotFinite` of the run's own samples, whose settings are harmless, to `Diverged`."""
        try:
            yield
        except NotFinite:
            seen = self.trainer.images_seen
            raise Diverged(f"After {seen} images the weights are so large that samples are NaN or infinite") from None

    @contextmanager
    def explaining_lack_of_memory(self) -> Iterator[None]:
        """Convert `BatchTooLarge`, which is raised only with sharded weights, to a message that says what to do.

        A step with sharded weights cannot be repeated; a record makes the next start use a smaller micro-batch.
        """
        try:
            yield
        except BatchTooLarge as error:
            size = self.trainer.micro_batch_size
            if size == 1:
                raise ValueError(
                    "Not even one image fits into memory with this network, although it is sharded. "
                    "Use a smaller `model` or `size`, or more processes."
                ) from error
            half = -(-size // 2)
            self.folder.limit_micro_batch(half)
            raise ValueError(
                f"Memory ran out in process {self.trainer.ranks.rank}, with a micro-batch of {counted(size, 'image')}. "
                "With sharded weights training cannot continue from there. "
                f"Run the same call or command again; it will use micro-batches of {counted(half, 'image')}."
            ) from error

    @contextmanager
    def explaining_failed_compilation(self) -> Iterator[None]:
        """Convert `CompileFailed`, which is raised only with sharded weights, to a message that says what to do."""
        try:
            yield
        except CompileFailed as error:
            raise ValueError(
                f"The network cannot be compiled: {error}. With sharded weights training cannot continue from there. "
                "Give `compile=no`."
            ) from error
