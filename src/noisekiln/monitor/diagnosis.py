"""Diagnosis of a training step: the noise level and the images with the largest error."""

from typing import cast

import torch

from noisekiln.data import DataSet, batch_order
from noisekiln.errors import listed
from noisekiln.objectives.base import Loss
from noisekiln.training.trainer import Trainer

MAX_NAMED = 4  # images


def diagnose(trainer: Trainer, data: DataSet, seed: int) -> str:
    """A sentence on the largest error of the last step: noise-to-signal ratio and images. All processes call it.

    The images named are those with an error that is NaN or infinite, or else the one with the largest error.

    Args:
        trainer: Trainer of a `Learner`.
        data: Data set of the run.
        seed: Seed of the run, which determines the order of images.
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
    return f"the largest error was at the noise-to-signal ratio {float(nsr[bad[0]]):.3g}, in {listed(files, MAX_NAMED)}"
