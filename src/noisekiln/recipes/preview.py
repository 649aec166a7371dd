"""What a run with a task shows of itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.data import DataSet, Images
from noisekiln.diffusion import Diffusion
from noisekiln.pictures import Pixels, beside, tile

COUNT = 16


def task_sheet(models: Sequence[Diffusion], data: DataSet, **settings: Any) -> Pixels:
    """Of the same held-out images side by side: what is given, what each model makes of it, and what it was.

    Args:
        models: With a task.
        data: Where the images are from; without held-out ones, those trained on.
        settings: Of `Diffusion.generate`.
    """
    shown = TaskPreview(models[0], data)
    picture = shown.given_sheet
    for sheet in (*(shown.painted_by(model, **settings) for model in models), shown.original_sheet):
        picture = beside(picture, sheet)
    return picture


class TaskPreview:
    """The held-out images that show what a model with a task makes of what is given.

    Args:
        model: With a task.
        data: Where the images are from; without held-out ones, those trained on.

    Attributes:
        given_sheet: What is given of each.
        original_sheet: What each was.
    """

    def __init__(self, model: Diffusion, data: DataSet) -> None:
        part = data.held_out or data.train
        task = model.task
        assert task is not None
        whole = torch.from_numpy(part.pixels[:COUNT])
        seen = whole if part.partners is None else torch.from_numpy(part.partners[:COUNT])
        self._given = task.observe(seen, torch.Generator().manual_seed(0))
        self._wishes = _wishes(model, part, data.class_names, len(whole))
        self.given_sheet = _sheet(task.picture(self._given, data.size))
        self.original_sheet = _sheet(whole)

    def painted_by(self, model: Diffusion, **settings: Any) -> Pixels:
        """A sheet of what a model makes of what is given; settings are those of `Diffusion.generate`."""
        return _sheet(model.sample(self._wishes, given=self._given, **settings))


def _wishes(model: Diffusion, part: Images, names: tuple[str, ...], count: int) -> list[str | int | None]:
    """The images' own classes or captions."""
    if model.conditioner is None:
        return [None] * count
    told = getattr(part, model.conditioner.reads)
    if told is None:  # fine-tuned on images that say nothing
        return [None] * count
    shown = [names[label] for label in told[:count]] if model.conditioner.choices else told[:count]
    return [wish or None for wish in shown]


def _sheet(images: Tensor) -> Pixels:
    """A grid; grey as red, green and blue, so that sheets of both fit together."""
    pixels = images.cpu().numpy()
    return tile(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels, columns=4)
