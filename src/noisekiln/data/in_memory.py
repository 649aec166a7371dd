"""Data in memory: an array, or a sequence of images."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.source import Item, Part, Source, file_item
from noisekiln.errors import DataError

NAME = "array"


def from_array(array: NDArray[Any]) -> Source:
    """A source from one array, in any layout that an .npy file may have."""
    return Source(NAME, Part(array))


def from_sequence(sequence: Sequence[Any]) -> Source:
    """A source from PIL images, arrays (H, W[, C]) of bytes and paths of image files, in any combination."""
    try:
        entries = list(sequence)
    except TypeError:
        raise DataError(
            f"a {type(sequence).__name__}",
            "it is neither a path nor a sequence of images",
            "Give a folder, a file, an array (N, H, W, C) or a list of images",
        ) from None
    if not entries:
        raise DataError("an empty sequence", "there is nothing to train on", "Give at least one image")
    return Source("images", Part(tuple(_item(number, entry) for number, entry in enumerate(entries))))


def _item(number: int, entry: object) -> Item:
    if isinstance(entry, str | Path):
        return file_item(str(entry), Path(entry))
    if isinstance(entry, Image.Image):
        return Item(f"number {number}", entry.copy)  # a copy, as it is closed after use
    if isinstance(entry, np.ndarray) and entry.dtype == np.uint8 and entry.ndim in (2, 3):
        pixels = entry.squeeze(2) if entry.ndim == 3 and entry.shape[2] == 1 else entry
        if pixels.ndim == 2 or pixels.shape[2] in (3, 4):
            return Item(f"number {number}", partial(Image.fromarray, pixels))
    what = f"{entry.dtype} of shape {entry.shape}" if isinstance(entry, np.ndarray) else f"a {type(entry).__name__}"
    raise DataError(
        f"image number {number}",
        f"{what} is not an image",
        "Give PIL images, paths, or uint8 arrays (H, W) or (H, W, C) with 1, 3 or 4 channels",
    )
