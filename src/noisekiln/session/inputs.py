"""Pictures from files, as a task's model wants them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import read_picture, read_transparency
from noisekiln.model.diffusion import Diffusion


def read_given(model: Diffusion, files: Sequence[Path]) -> Tensor:
    """What these files give to a model with a task, (N, h, w, c) uint8: grey, in colour, or with transparency.

    Raises:
        ValueError: If the model has no task, a file is no picture, or the pictures differ in size.
    """
    if model.task is None:
        raise ValueError(
            "This model paints from noise alone: it was trained without a task, and takes no images. "
            "Use `noisekiln sample`, or train one with --task."
        )
    reads = model.task.source_channels(model.codec.channels)
    pictures = [_read(file, reads) for file in files]
    if len({picture.shape for picture in pictures}) > 1:
        sizes = ", ".join(f"{file.name} {p.shape[0]}x{p.shape[1]}" for file, p in zip(files, pictures, strict=True))
        raise ValueError(f"The images differ in size ({sizes}), and are painted together. Give those of one size.")
    return torch.from_numpy(np.stack(pictures))


def _read(file: Path, channels: int) -> NDArray[np.uint8]:
    """A picture with 1 channel (grey) or 3 (colour), or one more for its opacity."""
    pixels = read_picture(file, channels=1 if channels < 3 else 3)
    if pixels.shape[2] == channels:
        return pixels
    clear = read_transparency(file)
    opaque = np.ones(pixels.shape[:2]) if clear is None else 1 - clear
    return np.dstack([pixels, (255 * opaque).round().astype(np.uint8)])
