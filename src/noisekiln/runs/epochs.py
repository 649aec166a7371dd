"""Epochs of a run whose budget is in epochs: where each ends, and its mean loss."""

from noisekiln.plan.settings import Settings
from noisekiln.runs.events import Epoch
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer


class EpochCounter:
    """Counts epochs from where the run starts or resumes; without a budget in epochs there are none.

    Args:
        settings: Resolved settings.
        image_count: Training images, all of which an epoch shows once.
        trainer: The trainer, with the state that training continues from.
    """

    def __init__(self, settings: Settings, image_count: int, trainer: Trainer) -> None:
        self._epochs, self._image_count = settings.epochs, image_count
        self._done = trainer.images_seen // image_count
        self._losses: list[float] = []

    def add(self, report: Report) -> Epoch | None:
        """Add a step; the epoch that ended in it, if one did.

        Its loss is the mean over the steps that were applied in it since the run was started or resumed.
        """
        if self._epochs is None:
            return None
        if report.applied:
            self._losses.append(report.loss)
        done = report.images_seen // self._image_count
        if done == self._done:
            return None
        loss = sum(self._losses) / len(self._losses) if self._losses else None
        self._done, self._losses = done, []
        return Epoch(min(done, self._epochs), self._epochs, report.images_seen, report.seconds, loss)
