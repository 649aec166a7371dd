"""Previews: grids of samples that show what a model has learned so far."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.conditioners.base import Conditioner, Value
from noisekiln.data import DataSet, Split
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_balanced
from noisekiln.errors import NotFinite
from noisekiln.files.pictures import ImageArray, concat_horizontally, tile
from noisekiln.machine.memory import retry_with_halves
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import finished_images
from noisekiln.model.model import Model

# A few steps show what a model has learned, independent of its own defaults.
PREVIEW: dict[str, Any] = {"sampler": "dpmpp_2m", "steps": 12, "schedule": "karras"}
COUNT = 16
COLUMNS = 4


def preview(
    models: Sequence[Diffusion], data: DataSet, ranks: Ranks, *, unconditional: bool = False, **options: Any
) -> ImageArray:
    """Samples with fixed seeds and conditions, of each model side by side: every process makes some and receives all.

    With a task: sources of held-out images, the samples of each model, and the originals.

    Args:
        models: Models of one kind.
        data: Data set of the conditions and sources: held-out images, or training images if there are none.
        ranks: Processes; all call this.
        unconditional: Whether to sample without conditions, because training has none.
        options: Options of `Diffusion.generate` that differ from those of previews.
    """
    options = PREVIEW | options
    if models[0].task is not None:
        return TaskPreview(models[0], data).beside(models, ranks, **options)
    conditioner = None if unconditional else models[0].conditioner
    conditions = preview_conditions(conditioner, data.held_out or data.train, data.class_names)
    assert conditions is not None
    return concat_horizontally([sheet_of(generate_previews(model, conditions, ranks, **options)) for model in models])


def preview_conditions(
    conditioner: Conditioner | None, images: Split | None, class_names: tuple[str, ...], count: int = COUNT
) -> list[Value | None] | None:
    """The conditions that previews show.

    Args:
        conditioner: Conditioner of the model; None for unconditional samples.
        images: Images whose conditions may be shown; None if they are not loaded.
        class_names: Names of the classes of the data.
        count: Number of conditions.

    Returns:
        The conditions; None if they must be those of images, and `images` is None.
    """
    if conditioner is None:
        return [None] * count
    conditions = conditioner.preview(images, class_names, count)
    if conditions is None:
        return None if images is None else [None] * count  # these images have no conditions
    return list(conditions)


def generate_previews(
    model: Model,
    conditions: Sequence[Value | None],
    ranks: Ranks,
    *,
    source: Tensor | None = None,
    at_once: int | None = None,
    **options: Any,
) -> ImageArray:
    """One image per condition, (N, H, W, C); it depends on its seed, not on the process that makes it.

    Args:
        model: Model to sample.
        conditions: One condition per image.
        ranks: Processes; each makes some images, and all receive all.
        source: The source of each image, for a model with a task.
        at_once: Images that a process samples at once, at most; None for all of its own.
        options: Options of `Diffusion.generate`.

    Raises:
        NotFinite: In all processes, if images of one of them are not finite.
    """
    mine = split_balanced(len(conditions), ranks.world_size)[ranks.rank]
    part = slice(mine.start, mine.stop)
    if source is not None:
        options["source"] = source[part]
    images = torch.zeros(len(mine), *model.size, model.codec.image_channels, dtype=torch.uint8)
    failure: NotFinite | None = None
    if mine:
        try:
            sample = partial(model.generate, conditions[part], seeds=mine, **options)  # without notes on rare words
            size = min(len(mine), at_once or len(mine))
            images = retry_with_halves(lambda size: finished_images(sample(batch_size=size)).cpu(), size)
        except NotFinite as error:  # in a process that must not leave the others waiting for its images
            failure = error
    if ranks.all_reduce_sum([failure is not None]) != [0]:
        raise failure or NotFinite("Sampling produced NaN or infinite values in another process.")
    return ranks.all_gather(images, len(conditions)).numpy()


class TaskPreview:
    """Previews of models with a task: sources of held-out images, samples and originals.

    Args:
        model: A model with the task.
        data: Data set of the images: held-out ones, or training images if there are none.

    Attributes:
        source: The sources.
        conditions: Condition of each.
        source_sheet: Grid of the sources.
        original_sheet: Grid of the images from which the sources were computed.
    """

    def __init__(self, model: Diffusion, data: DataSet) -> None:
        part, task = data.held_out or data.train, model.task
        assert task is not None
        first = part.take(np.arange(min(COUNT, len(part))))
        self.source = task.sources_of(first)
        values = None if model.conditioner is None else model.conditioner.values(first, data.class_names)
        self.conditions = [None] * len(first) if values is None else list(values)
        self.source_sheet = sheet_of(task.preview(self.source, data.size).numpy())
        self.original_sheet = sheet_of(first.pixels)

    def sheet_by(self, model: Diffusion, ranks: Ranks, **options: Any) -> ImageArray:
        """Samples of a model for the sources; options are those of `Diffusion.generate`."""
        return sheet_of(generate_previews(model, self.conditions, ranks, source=self.source, **options))

    def beside(self, models: Sequence[Diffusion], ranks: Ranks, **options: Any) -> ImageArray:
        """The sources, the samples of each model, and the originals, side by side."""
        made = [self.sheet_by(model, ranks, **options) for model in models]
        return concat_horizontally([self.source_sheet, *made, self.original_sheet])


def sheet_of(pixels: ImageArray) -> ImageArray:
    """A grid of images (N, H, W, C); grey ones become RGB, so that grids of both kinds can be joined."""
    return tile(np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels, columns=COLUMNS)
