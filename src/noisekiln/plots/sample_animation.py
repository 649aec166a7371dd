"""An animation of how samples form: from noise to images."""

from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from noisekiln.conditioners.base import Value
from noisekiln.files.atomic import atomic_write
from noisekiln.files.pictures import ImageArray, tile
from noisekiln.model.diffusion import Diffusion
from noisekiln.plots.sheet import fit_into

COUNT, COLUMNS = 9, 3
# A schedule of unit variance, so that no frame is too bright, and of equal angles: most steps are where images form,
# not in pure noise or among the last details.
OPTIONS: dict[str, Any] = {"sampler": "dpmpp_2m", "schedule": "cosine", "steps": 16, "precision": "fp32"}
SIDE = 96  # of an image, in pixels
MILLISECONDS, LAST = 90, 1800  # of a frame, and of the finished images


def denoising_frames(
    model: Diffusion, conditions: list[Value | None], *, source: Tensor | None, batch_size: int
) -> ImageArray:
    """Samples after each step: (steps, N, H, W, C) uint8.

    Args:
        model: The model.
        conditions: Condition of each sample; their seeds are 0, 1, ...
        source: Source of each sample, for a model with a task.
        batch_size: Samples in memory at once.
    """
    levels = model.levels(OPTIONS["schedule"], OPTIONS["steps"])
    frames: list[list[ImageArray]] = [[] for _ in levels[1:]]
    for progress in model.generate(
        conditions, seeds=range(len(conditions)), batch_size=batch_size, source=source, **OPTIONS
    ):
        number = (progress.step - 1) % len(frames)
        frames[number].append(progress.images().cpu().numpy())
    return np.stack([np.concatenate(parts) for parts in frames])


def save_animation(frames: ImageArray, file: Path) -> None:
    """Write frames (T, N, H, W, C) as an endless GIF: a grid of the N images in each, the last one shown for longer.

    Raises:
        OSError: If it cannot be written.
    """
    sheets = []
    for images in frames:
        cells = np.stack([np.asarray(fit_into(image, SIDE)) for image in images])
        sheets.append(fit_into(tile(cells, COLUMNS, gap=2), 3 * (SIDE + 4)))
    durations = [MILLISECONDS] * (len(sheets) - 1) + [LAST]
    with atomic_write(file) as draft:
        sheets[0].save(draft, save_all=True, append_images=sheets[1:], duration=durations, loop=0)
