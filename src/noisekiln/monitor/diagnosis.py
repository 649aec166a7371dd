"""Where the loss of a training step was largest: at which noise level, in which images."""

from typing import cast

import torch

from noisekiln.data import DataSet, batch_order
from noisekiln.objectives.base import Loss
from noisekiln.training.trainer import Trainer

NAMED_AT_MOST = 4  # images


def diagnose(trainer: Trainer, data: DataSet, seed: int) -> str:
    """Where the error of the last step was largest, in words: noise-to-signal ratio and images. All processes call it.

    The images named are those with an error that is NaN or infinite, or else the one with the largest error.

    Args:
        trainer: Trainer of a `Learner`.
        data: The images that it trains on.
        seed: Seed of the run, which decides their order.
    """
    losses, images = cast(list[Loss], trainer.losses), data.train
    if not losses:
        return "there was no step yet"
    errors = torch.cat([loss.per_sample for loss in losses]).cpu()
    nsr = torch.cat([loss.level.nsr for loss in losses]).cpu()
    errors, nsr = (trainer.ranks.all_gather(column, trainer.batch_size) for column in (errors, nsr))
    bad = torch.where(~errors.isfinite())[0].tolist() or [int(errors.argmax())]
    order = batch_order(len(images), seed=seed, start=trainer.step_start, count=trainer.batch_size)
    files = [images.files[row] if images.files else f"image {row} of {data.name}" for row in order[bad]]
    more = f" and {len(files) - NAMED_AT_MOST} more" if len(files) > NAMED_AT_MOST else ""
    return (
        f"the largest error was at the noise-to-signal ratio {float(nsr[bad[0]]):.3g}, "
        f"in {', '.join(files[:NAMED_AT_MOST])}{more}"
    )
