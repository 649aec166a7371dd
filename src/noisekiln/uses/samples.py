"""Several pictures that differ in their seeds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.request import SampleOptions


def variants(
    model: Diffusion,
    how: SampleOptions,
    *,
    size: tuple[int, int] | None = None,
    given: Tensor | None = None,
    step_done: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Tensor:
    """Paint ``how.count`` pictures that differ in their seeds, (N, H, W, C) uint8.

    Args:
        model: What paints.
        how: Wish, count, seed and batch.
        size: Height and width of the pictures; the model's own, or its task's, unless given.
        given: What a model with a task starts from, (h, w, c) uint8.
        step_done: Called after every step.
        settings: Of `Diffusion.generate`, the same for all.
    """
    done = []
    for first in range(0, how.count, how.batch):
        seeds = [how.seed + i for i in range(first, min(first + how.batch, how.count))]
        shown = None if given is None else given.expand(len(seeds), -1, -1, -1)
        wishes = [how.wish] * len(seeds)
        for progress in model.generate(wishes, seeds=seeds, size=size, given=shown, **settings):  # noqa: B007
            step_done()
        done.append(progress.images())
    return torch.cat(done)
