"""Where something went wrong in training."""

from typing import cast

import torch

from noisekiln.data import DataSet, batch_order
from noisekiln.objectives.base import Loss
from noisekiln.training.trainer import Trainer

TOLD = 4  # images that are named


def diagnose(trainer: Trainer, data: DataSet, seed: int) -> str:
    """Where the last step went wrong: at which noise, and in which images; every process has to ask.

    Named are those whose error is no number, or else the one whose error is largest.
    """
    losses, images = cast(list[Loss], trainer.gradients.losses), data.train
    if not losses:
        return "no step was taken yet"
    errors = torch.cat([loss.per_sample for loss in losses]).cpu()
    nsr = torch.cat([loss.level.nsr for loss in losses]).cpu()
    errors, nsr = (trainer.ranks.all_gather(column, trainer.batch_size) for column in (errors, nsr))
    bad = torch.where(~errors.isfinite())[0].tolist() or [int(errors.argmax())]
    order = batch_order(len(images), seed=seed, start=trainer.began, count=trainer.batch_size)
    files = [images.files[row] if images.files else f"image {row} of {data.name}" for row in order[bad]]
    more = f" and {len(files) - TOLD} more" if len(files) > TOLD else ""
    return (
        f"the largest error was at the noise-to-signal ratio {float(nsr[bad[0]]):.3g}, "
        f"in {', '.join(files[:TOLD])}{more}"
    )
