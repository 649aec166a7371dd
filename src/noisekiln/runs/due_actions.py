"""Times at which a run writes snapshots, grids and checkpoints."""

from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.training.due import AtShares, EveryImages, EverySeconds
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer

FEW_EPOCHS, SECONDS_OF_GRIDS = 20, 10.0  # each of a few epochs draws a grid; of more, at most one in so many seconds


class DueActions:
    """Decides after a step what is due, counted from where the run starts or resumes.

    Args:
        settings: Resolved settings.
        intervals: Intervals of grids and checkpoints.
        trainer: The trainer, with the state that training continues from.
    """

    def __init__(self, settings: Settings, intervals: Intervals, trainer: Trainer) -> None:
        self._snapshots = AtShares.equal(settings.ema_snapshots, start=trainer.share)
        epochs = settings.epochs or 0
        by_epochs = epochs >= len(intervals.grids_at)
        self._grids = AtShares(() if by_epochs else intervals.grids_at, start=trainer.share)
        self._grids_of_epochs = EverySeconds(0.0 if epochs <= FEW_EPOCHS else SECONDS_OF_GRIDS, start=trainer.seconds)
        self._permanent_checkpoints = EveryImages(settings.keep_every, start=trainer.images_seen)
        self._checkpoints = EverySeconds(intervals.checkpoint_seconds, start=trainer.seconds)

    def snapshot(self, share: float) -> bool:
        """Whether a snapshot is due at this share of the budget; called after applied steps, and at the end."""
        return self._snapshots.due(share)

    def grid(self, report: Report, *, epoch_ended: bool = False) -> bool:
        """Whether a grid is due; after the last step one is always drawn, and none is due.

        Args:
            report: The step.
            epoch_ended: Whether an epoch of the budget ended in it.
        """
        if report.share >= 1:
            return False
        by_epoch = epoch_ended and self._grids_of_epochs.due(report.seconds)
        return self._grids.due(report.share) or by_epoch

    def checkpoint(self, report: Report, *, now: bool) -> bool:
        """Whether a checkpoint is due.

        The last step is saved after the last grid: a run that is killed before it draws the grid again.

        Args:
            report: The step.
            now: Whether a grid was drawn, or the best weights were found after it: they are saved with a checkpoint.
        """
        if not report.applied or report.share >= 1:
            return False
        permanent, timed = self._permanent_checkpoints.due(report.images_seen), self._checkpoints.due(report.seconds)
        if permanent or now:
            self._checkpoints.restart(report.seconds)
        return permanent or timed or now
