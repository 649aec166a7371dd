"""What is requested of a model that is evaluated: conditions and sources like those of its data."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from noisekiln.conditioners.base import Conditioner
from noisekiln.data import Split
from noisekiln.errors import reason_of
from noisekiln.evaluation.real_images import pick, places_by_content
from noisekiln.model.model import Model


@dataclass(frozen=True)
class RequestedSamples:
    """The requests of an evaluation, one for each sample.

    Attributes:
        conditions: Condition of each sample; None for an unconditional one.
        labels: Class that each sample shows, (N,) int64; None if the conditions are no classes.
        source: Source of each sample, for a model with a task.
        originals: Images from which the sources were computed, (N, H, W, C) uint8.
        unseen: How many of the first sources are of images that training has not seen.
        notes: What could not be requested, one line each.
    """

    conditions: list[Any]
    labels: Tensor | None = None
    source: Tensor | None = None
    originals: Tensor | None = None
    unseen: int = 0
    notes: tuple[str, ...] = ()


def request_samples(
    model: Model, part: Split, class_names: tuple[str, ...], count: int, seed: int, *, unseen: Split | None = None
) -> RequestedSamples:
    """`count` requests with the conditions of some images, as often as the data have them.

    Args:
        model: The model.
        part: The images, of which some are drawn by content; all are repeated if there are fewer.
        class_names: Names of the images' classes.
        count: Number of samples.
        seed: Seed of the choice.
        unseen: Images that training has not seen: the first sources of a model with a task.
    """
    parts = [part] if unseen is None or model.task is None else [unseen, part]
    places = [(number, row) for number, each in enumerate(parts) for _, row in places_by_content([each], seed)]
    drawn = pick(parts, [places[place % len(places)] for place in range(count)])
    conditions, notes = _conditions(model.conditioner, model, drawn, class_names)
    is_class = model.conditioner is not None and model.conditioner.kind == "class"
    labels = None if drawn.labels is None or not is_class or notes else torch.from_numpy(drawn.labels)
    if model.task is None:
        return RequestedSamples(conditions, labels, notes=tuple(notes))
    source, originals = model.task.sources_of(drawn, seed), torch.from_numpy(drawn.pixels)
    first = min(count, len(parts[0])) if len(parts) > 1 else 0
    return RequestedSamples(conditions, labels, source, originals, first, tuple(notes))


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
