"""Paint with a model that was trained for a task."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noisekiln.components.spec import describe
from noisekiln.model.diffusion import Diffusion
from noisekiln.tasks.base import Task
from noisekiln.uses.request import SampleOptions
from noisekiln.uses.samples import variants


def from_given(
    model: Diffusion,
    given: Tensor,
    task: type[Task],
    *,
    method: str | None = None,
    step_done: Callable[[], None] = lambda: None,
    **how: Any,
) -> Tensor:
    """Variants of a picture by a model that learned the task itself.

    Args:
        model: With a task.
        given: What the task starts from, (h, w, c) uint8.
        task: Which it must be.
        method: None: the model needs none.
        step_done: Called after every step.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Raises:
        ValueError: If the model has another task, or a method was asked for.
    """
    if not isinstance(model.task, task):
        its = describe(model.task) if model.task else "no task"
        raise ValueError(
            f"This model was trained for {its}, not for {task.__name__.lower()}. "
            "Take one that was, or one that was trained without a task."
        )
    if method is not None:
        raise ValueError(
            f"method={method!r} holds a plain model to what is known; this one was trained for it. Leave it away."
        )
    chosen = SampleOptions(**how)
    return variants(model, chosen, given=torch.as_tensor(given), step_done=step_done, **chosen.settings())
