"""What a run shows of itself."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.data import DataSet, Images
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_evenly
from noisekiln.files.pictures import ImageArray, beside, tile
from noisekiln.machine.memory import retry_with_halves
from noisekiln.model.diffusion import Diffusion

PREVIEW: dict[str, Any] = {
    "sampler": "dpmpp_2m",
    "steps": 12,
    "schedule": "karras",
}  # few steps show what a model knows, whatever it is for
COUNT = 16


def preview(models: Sequence[Diffusion], data: DataSet, cond: str, ranks: Ranks, **settings: Any) -> ImageArray:
    """Samples of fixed seeds and wishes, of each model side by side; every process paints some and gets all.

    With a task: what is given, what each model makes of it, and the original, of held-out images.

    Args:
        models: Of one kind.
        data: Where wishes and images are from; without held-out ones, those trained on.
        cond: What the models are told.
        ranks: The processes; each calls this.
        settings: Of `Diffusion.generate`, other than the usual ones.
    """
    how = PREVIEW | settings
    if models[0].task is not None:
        return task_sheet(models, data, ranks, **how)
    wishes = preview_wishes(data, cond, COUNT)
    return beside(*(tile(_painted(model, wishes, ranks, **how), columns=4) for model in models))


def _painted(
    model: Diffusion, wishes: Sequence[str | int | None], ranks: Ranks, *, given: Tensor | None = None, **how: Any
) -> ImageArray:
    """A picture for each wish: its seed decides it, not who paints it."""
    mine = split_evenly(len(wishes), ranks.world_size)[ranks.rank]
    part = slice(mine.start, mine.stop)
    how |= {"seeds": mine, "given": None if given is None else given[part]}
    images = torch.zeros(0, *model.size, model.codec.channels, dtype=torch.uint8)
    if mine:
        images = retry_with_halves(lambda batch: model.sample(wishes[part], batch=batch, **how).cpu(), len(mine))
    return ranks.all_gather(images, len(wishes)).numpy()


def preview_wishes(data: DataSet, cond: str, count: int = 16) -> list[str | int | None]:
    """What the grids of a run show: classes in turn, captions that training has not seen, or nothing in particular."""
    part = data.held_out or data.train
    if cond == "class":
        return [data.class_names[i % len(data.class_names)] for i in range(count)]
    if cond == "text" and part.captions:
        return [part.captions[i % len(part.captions)] for i in range(count)]
    return [None] * count


def task_sheet(models: Sequence[Diffusion], data: DataSet, ranks: Ranks, **settings: Any) -> ImageArray:
    """Of the same held-out images side by side: what is given, what each model makes of it, and what it was.

    Args:
        models: With a task.
        data: Where the images are from; without held-out ones, those trained on.
        ranks: The processes; each calls this.
        settings: Of `Diffusion.generate`.
    """
    shown = TaskPreview(models[0], data)
    picture = shown.given_sheet
    for sheet in (*(shown.painted_by(model, ranks, **settings) for model in models), shown.original_sheet):
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
        self.given_sheet = _sheet(task.preview(self._given, data.size).numpy())
        self.original_sheet = _sheet(part.pixels[:COUNT])

    def painted_by(self, model: Diffusion, ranks: Ranks, **settings: Any) -> ImageArray:
        """A sheet of what a model makes of what is given; settings are those of `Diffusion.generate`."""
        return _sheet(_painted(model, self._wishes, ranks, given=self._given, **settings))


def _wishes(model: Diffusion, part: Images, names: tuple[str, ...], count: int) -> list[str | int | None]:
    """The images' own classes or captions."""
    if model.conditioner is None:
        return [None] * count
    told = getattr(part, model.conditioner.reads)
    if told is None:  # fine-tuned on images that say nothing
        return [None] * count
    shown = [names[label] for label in told[:count]] if model.conditioner.choices else told[:count]
    return [wish or None for wish in shown]


def _sheet(pixels: ImageArray) -> ImageArray:
    """A grid; grey as red, green and blue, so that sheets of both fit together."""
    return tile(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels, columns=4)
