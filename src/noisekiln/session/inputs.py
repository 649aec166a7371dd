"""Images from files, in the channels that a model or its task needs."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import read_image_file, read_transparency
from noisekiln.errors import listed
from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model

NoteCallback = Callable[[str], None]  # called with one line of text for the user


def read_image(model: Model, file: Path, note: NoteCallback, *, keep_transparency: bool = False) -> ImageArray:
    """An image in the model's channels, at its own size, (H, W, C) uint8.

    Args:
        model: The model.
        file: The image.
        note: Called if parts of it are transparent, as they are composited onto white.
        keep_transparency: Whether transparency is a mask, and so needs no note.
    """
    pixels = read_image_file(file, channels=model.codec.image_channels)
    if not keep_transparency:
        note_transparency(file, note)
    return pixels


def read_sources(model: Diffusion, files: Sequence[Path], note: NoteCallback) -> Tensor:
    """The sources of a model with a task, (N, h, w, c) uint8: grey, in colour, or with transparency.

    Args:
        model: The model.
        files: One file for each source.
        note: Called for each file whose transparency is lost.

    Raises:
        ValueError: If the model has no task, a file is not an image, or the images differ in size.
    """
    if model.task is None:
        raise ValueError(
            "This model generates from noise alone: it was trained without a task, and takes no images. "
            "Use `noisekiln sample`, or train one with a `task`."
        )
    channels = model.task.source_channels(model.codec.image_channels)
    images = [_read_source(file, channels) for file in files]
    if len({image.shape for image in images}) > 1:
        sizes = listed([f"{file.name} {i.shape[0]}x{i.shape[1]}" for file, i in zip(files, images, strict=True)])
        raise ValueError(f"The images differ in size ({sizes}), and are sampled together. Give images of one size.")
    if channels in (1, 3):
        for file in files:
            note_transparency(file, note)
    return torch.from_numpy(np.stack(images))


def note_transparency(file: Path, note: NoteCallback) -> None:
    """Note that an image is partly transparent, where transparency has no meaning."""
    transparency = read_transparency(file)
    if transparency is not None and transparency.any():
        note(f"{file}: {(transparency > 0).mean():.0%} of its pixels are transparent; they are composited onto white.")


def _read_source(file: Path, channels: int) -> NDArray[np.uint8]:
    """An image with 1 channel (grey) or 3 (colour), or one more for its opacity."""
    pixels = read_image_file(file, channels=1 if channels < 3 else 3)
    if pixels.shape[2] == channels:
        return pixels
    transparency = read_transparency(file)
    opacity = np.ones(pixels.shape[:2]) if transparency is None else 1 - transparency
    return np.dstack([pixels, (255 * opacity).round().astype(np.uint8)])
