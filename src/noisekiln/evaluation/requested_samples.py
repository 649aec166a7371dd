"""What is requested of a model that is evaluated: conditions and sources like those of its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.conditioners.base import Conditioner
from noisekiln.data import Split
from noisekiln.errors import reason_of
from noisekiln.evaluation.real_images import condition_rows
from noisekiln.model.model import Model


@dataclass(frozen=True)
class RequestedSamples:
    """The requests of an evaluation, one for each sample.

    Attributes:
        conditions: Condition of each sample; None for an unconditional one.
        labels: Class that each sample shows, (N,) int64; None if the conditions are no classes.
        source: Source of each sample, for a model with a task.
        originals: Images from which the sources were computed, (N, H, W, C) uint8.
        notes: What could not be requested, one line each.
    """

    conditions: list[Any]
    labels: Tensor | None = None
    source: Tensor | None = None
    originals: Tensor | None = None
    notes: tuple[str, ...] = ()


def request_samples(model: Model, part: Split, class_names: tuple[str, ...], count: int, seed: int) -> RequestedSamples:
    """`count` requests with the conditions of some images, as often as the data have them.

    Args:
        model: The model.
        part: The images, of which some are drawn by content; for a model with a task, their sources are used, too.
        class_names: Names of the images' classes.
        count: Number of samples.
        seed: Seed of the choice.
    """
    drawn = part.take(condition_rows(part, count, seed))
    conditions, notes = _conditions(model.conditioner, model, drawn, class_names)
    is_class = model.conditioner is not None and model.conditioner.kind == "class"
    labels = drawn.labels if is_class and not notes else None
    source = originals = None
    if model.task is not None:
        originals = torch.from_numpy(drawn.pixels)
        seen = originals if drawn.partners is None else torch.from_numpy(drawn.partners)
        source = model.task.observe(seen, torch.Generator().manual_seed(seed))
    return RequestedSamples(
        conditions, None if labels is None else torch.from_numpy(np.asarray(labels)), source, originals, tuple(notes)
    )


def _conditions(
    conditioner: Conditioner | None, model: Model, drawn: Split, class_names: tuple[str, ...]
) -> tuple[list[Any], list[str]]:
    nothing: list[Any] = [None] * len(drawn)
    if conditioner is None:
        return nothing, []
    values: Sequence[Any] | None = conditioner.values(drawn, class_names)
    if values is None:
        return nothing, [f"these images have no {conditioner.plural}, so samples are unconditional"]
    try:
        model.check_conditions(values)
    except ValueError as error:
        return nothing, [
            f"the model cannot show what these images show ({reason_of(error)}): samples are unconditional"
        ]
    return list(values), []
