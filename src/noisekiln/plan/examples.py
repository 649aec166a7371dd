"""Training batches: images encoded, with all that is random about them."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.data import DataSet, batch_order
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.batches import Batch


def wishes(conditioner: Conditioner, data: DataSet) -> Tensor:
    """Ids of what each training image shows, as the conditioner knows it: a class has its row by its name."""
    if conditioner.reads == "labels" and conditioner.choices != data.class_names:
        return conditioner.encode(data.class_names)[torch.as_tensor(data.train.labels)]
    return conditioner.encode(getattr(data.train, conditioner.reads))


class TrainingBatches:
    """Batch of the training part, encoded, with all that is random about them.

    A row has x, the ids of its wish, what a task shows of it, and what the objective draws for it.

    Args:
        trained: Its codec, conditioner, task and objective; wishes are encoded once, here.
        data: The images.
        settings: Resolved.
    """

    def __init__(self, trained: Learner, data: DataSet, settings: Settings) -> None:
        diffusion = trained.diffusion
        self.diffusion, self.objective, self.images = diffusion, trained.objective, data.train
        self.seed, self.drop, self.device = settings.seed, settings.cond_dropout, settings.device
        task, conditioner = diffusion.task, diffusion.conditioner
        if task is not None and task.paired and data.train.partners is None:
            raise ValueError(
                f"{describe(task)} learns from pairs of images, and {data.name} holds single ones. "
                "Read them with noisekiln.data.load_pairs."
            )
        self.ids: Tensor | None = None
        if conditioner is not None:
            told = settings.cond != "none"
            self.ids = wishes(conditioner, data) if told else conditioner.nothing(len(self.images))

    def __call__(self, start: int, count: int, generator: torch.Generator) -> Batch:
        """The next `count` images after `start`."""
        places = self.places(start, count)
        pixels = self._on_device(self.images.pixels[places])
        x, ids, image = self.diffusion.codec.encode(pixels), None, None
        if self.ids is not None and self.diffusion.conditioner is not None:
            ids = self.ids[torch.from_numpy(places)]
            ids = self.diffusion.conditioner.drop(ids, self.drop, generator).to(x.device)
        task = self.diffusion.task
        if task is not None:
            partners = self.images.partners
            seen = self._on_device(partners[places]) if task.paired and partners is not None else pixels
            image = task.degrade(seen, self.diffusion.codec, generator)
        return x, ids, image, *self.objective.drawn(x, generator)

    def places(self, start: int, count: int) -> NDArray[np.int64]:
        """Which images of the training part these are."""
        return batch_order(len(self.images), seed=self.seed, start=start, count=count)

    def _on_device(self, pixels: NDArray[np.uint8]) -> Tensor:
        return torch.from_numpy(pixels).to(self.device)
