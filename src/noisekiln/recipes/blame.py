"""Where something went wrong in training."""

from typing import cast

import torch

from noisekiln.data import DataSet, batch_order
from noisekiln.objectives.base import Loss
from noisekiln.training.trainer import Trainer


def blame(trainer: Trainer, data: DataSet, seed: int) -> str:
    """Where in the last step the error was largest: at which noise, and in which image; every process has to ask."""
    losses, images = cast(list[Loss], trainer.last), data.train
    errors = torch.cat([loss.per_sample for loss in losses]).cpu()
    nsr = torch.cat([loss.level.nsr for loss in losses]).cpu()
    errors, nsr = (trainer.peers.gathered(column, trainer.batch) for column in (errors, nsr))
    worst = int(torch.where(errors.isfinite(), errors, torch.inf).argmax())
    place = int(batch_order(len(images), seed=seed, start=trainer.began, count=trainer.batch)[worst])
    file = images.files[place] if images.files else f"image {place} of {data.name}"
    return f"the largest error was at the noise-to-signal ratio {float(nsr[worst]):.3g}, in {file}"
