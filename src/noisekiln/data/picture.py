"""One picture, read as carefully as a data set's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from .decode import Unusable, decode, header
from .errors import DataError
from .source import file_item


def read_picture(file: str | Path, *, channels: int) -> NDArray[np.uint8]:
    """An image file as (H, W, channels) uint8: upright, its first frame, on white where it is transparent.

    Args:
        file: PNG, JPEG, WebP, ...
        channels: 1 for grey, 3 for colour.

    Raises:
        DataError: If it is not there, or no image, or damaged.
    """
    item = file_item(str(file), Path(file))
    try:
        head = header(item)
        picture = decode(item, colour=channels == 3, window=head.deep, about=(head.height, head.width))
    except Unusable as unusable:
        raise DataError(str(file), str(unusable), "Give another picture, or save it again as PNG") from unusable
    pixels = np.array(picture)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_transparency(file: str | Path) -> NDArray[np.float32] | None:
    """How transparent each pixel is, (H, W) of 0 to 1; None for a file that has no transparency."""
    read_picture(file, channels=1)  # says what is wrong, if anything is
    with Image.open(file) as picture:
        if not picture.has_transparency_data:
            return None
        alpha = ImageOps.exif_transpose(picture).convert("RGBA").getchannel("A")
        return (1 - np.asarray(alpha, dtype=np.float32) / 255).astype(np.float32)
