"""What a run with a task shows of itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

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
    part = data.held_out or data.train
    task = models[0].task
    assert task is not None
    whole = torch.from_numpy(part.pixels[:COUNT])
    seen = whole if part.partners is None else torch.from_numpy(part.partners[:COUNT])
    given = task.observe(seen, torch.Generator().manual_seed(0))
    wishes = _wishes(models[0], part, data.class_names, len(whole))
    painted = [model.sample(wishes, given=given, **settings).cpu() for model in models]
    sheets = [_colour(images.numpy()) for images in (task.picture(given, data.size), *painted, whole)]
    tiled = [tile(sheet, columns=4) for sheet in sheets]
    picture = tiled[0]
    for sheet in tiled[1:]:
        picture = beside(picture, sheet)
    return picture


def _wishes(model: Diffusion, part: Images, names: tuple[str, ...], count: int) -> list[str | int | None]:
    """The images' own classes or captions."""
    if model.conditioner is None:
        return [None] * count
    told = getattr(part, model.conditioner.reads)
    if told is None:  # fine-tuned on images that say nothing
        return [None] * count
    shown = [names[label] for label in told[:count]] if model.conditioner.choices else told[:count]
    return [wish or None for wish in shown]


def _colour(images: Pixels) -> Pixels:
    """Grey as red, green and blue, so that sheets of both fit together."""
    return np.repeat(images, 3, axis=-1) if images.shape[-1] == 1 else images
