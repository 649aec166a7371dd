"""Models that were trained for a task, applied to one source image."""

from collections.abc import Iterator
from typing import Unpack

from torch import Tensor

from noisekiln.components.registry import name_of
from noisekiln.components.spec import describe
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.tasks.base import Task
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.request import SampleOptions


def apply_task(
    model: Diffusion,
    source: Tensor,
    task: type[Task],
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Images generated from one source by a model with a task.

    Args:
        model: Model with a task.
        source: Source of the task, (1, h, w, c) uint8.
        task: Required task of the model.
        method: Must be None, as such a model needs no inverse method.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: If the model has another task, or a method is given.
    """
    if not isinstance(model.task, task):
        actual = describe(model.task) if model.task else "no task"
        raise ValueError(
            f"This model was trained for {actual}, not for {name_of(task)}. "
            "Use one that was, or one that was trained without a task."
        )
    if method is not None:
        raise ValueError(
            f"`method={method}` guides a model without a task, and this one was trained for {name_of(task)}. Omit it."
        )
    return model.generate(**SampleOptions.of(**options).arguments(), source=source)
