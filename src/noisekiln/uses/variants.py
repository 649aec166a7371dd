"""Several pictures that differ in their seeds."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noisekiln.diffusion import Diffusion
from noisekiln.uses.how import How


def variants(
    model: Diffusion,
    how: How,
    *,
    size: tuple[int, int],
    step_done: Callable[[], None] = lambda: None,
    **settings: Any,
) -> Tensor:
    """Paint ``how.count`` pictures that differ in their seeds, (N, H, W, C) uint8.

    Args:
        model: What paints.
        how: Wish, count, seed and batch.
        size: Height and width of the pictures.
        step_done: Called after every step.
        settings: Of `Diffusion.generate`, the same for all.
    """
    done = []
    for first in range(0, how.count, how.batch):
        seeds = [how.seed + i for i in range(first, min(first + how.batch, how.count))]
        for progress in model.generate([how.wish] * len(seeds), seeds=seeds, size=size, **settings):  # noqa: B007
            step_done()
        done.append(progress.images())
    return torch.cat(done)
