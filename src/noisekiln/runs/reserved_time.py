"""Time of a budget in minutes that is kept for what follows the last step: an evaluation, a grid, a save."""

from noisekiln.training.trainer import Trainer


def agreed_seconds(trainer: Trainer, seconds: float) -> float:
    """The mean over all processes of a time that each has measured. All processes call this."""
    return trainer.ranks.all_reduce_sum([seconds])[0] / trainer.ranks.world_size


def reserve(trainer: Trainer, seconds: float) -> None:
    """Keep this time of a budget in minutes, on which all processes agree; so the whole run takes these minutes."""
    trainer.budget = trainer.budget.reserving(seconds)


def count_as_used(trainer: Trainer) -> None:
    """Count the time that was kept, if the minutes ended the run, so that the saved state is that of a finished one."""
    if trainer.budget.minutes is not None and trainer.budget.share(trainer.seconds, images=0) >= 1:
        trainer.seconds = max(trainer.seconds, 60 * trainer.budget.minutes)
