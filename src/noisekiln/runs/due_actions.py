"""Times at which a run writes snapshots, grids and checkpoints."""

from noisekiln.monitor.intervals import Intervals
from noisekiln.plan.settings import Settings
from noisekiln.runs.reserved_time import agreed_seconds, reserve
from noisekiln.training.due import AtShares, EveryImages, EverySeconds
from noisekiln.training.report import Report
from noisekiln.training.trainer import Trainer

FEW_EPOCHS, SECONDS_OF_GRIDS = 20, 10.0  # each of a few epochs draws a grid; of more, at most one in so many seconds
GRID_SHARE = 0.1  # of the time since the grid before, at most, for a grid of a run with a budget in minutes
GRID_IMAGES = 128  # images on which training takes as long as a grid: 2 x 16 samples of 12 steps, without gradients


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
        self._trainer, self._in_minutes = trainer, settings.minutes is not None
        self._grid_seconds, self._grid_ended = 0.0, trainer.seconds
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
        return (self._grids.due(report.share) and self._is_cheap(report)) or by_epoch

    def grid_ended(self, seconds: float, *, also: float = 0.0) -> None:
        """Record how long a grid and its save took, and keep time for those at the end. All processes call this.

        Args:
            seconds: What this process has measured.
            also: Further seconds to keep.
        """
        self._grid_seconds = agreed_seconds(self._trainer, seconds)
        self._grid_ended = self._trainer.seconds + self._grid_seconds
        reserve(self._trainer, 2 * self._grid_seconds + also)  # the end draws more: an animation, or a larger sample

    def _is_cheap(self, report: Report) -> bool:
        """Whether a grid leaves the time of a budget in minutes to training; large images take long to sample."""
        if not self._in_minutes:
            return True
        expected = self._grid_seconds or GRID_IMAGES * report.seconds / report.images_seen
        return expected <= GRID_SHARE * (report.seconds - self._grid_ended)

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
