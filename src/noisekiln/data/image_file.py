"""Reading of one image file, with the checks of a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.decode import Unusable, decode, header, silent, transparency
from noisekiln.data.deep import windows_of
from noisekiln.data.source import Item, file_item
from noisekiln.errors import DataError

REMEDY = "Give another image, or save it again as PNG"


def read_image_file(file: str | Path, *, channels: int) -> NDArray[np.uint8]:
    """An image file as (H, W, channels) uint8: upright, its first frame, in sRGB, on white where it is transparent.

    More than 8 bits are scaled as those of a data set are: 12 bits in a file of 16 are not dark.

    Args:
        file: Image file: PNG, JPEG, WebP, ...
        channels: 1 for grey, 3 for colour.

    Raises:
        DataError: If it does not exist, is no image, or is damaged.
    """
    return read_image_item(file_item(str(file), Path(file)), channels=channels)


def read_image_item(item: Item, *, channels: int) -> NDArray[np.uint8]:
    """The same for anything that can be opened as a file, or is decoded: ``Item(name, lambda: image)``."""
    try:
        with silent():
            head = header(item)
            window = windows_of([head.deep] if head.deep else []).of(head.deep)
            image = decode(item, in_colour=channels == 3, window=window, about=(head.height, head.width))
    except Unusable as unusable:
        raise DataError(item.name, str(unusable), REMEDY) from unusable
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def read_transparency(file: str | Path) -> NDArray[np.float32] | None:
    """Transparency of each pixel, (H, W) of 0 to 1; None for a file without transparency. Raises DataError."""
    try:
        with silent():
            return transparency(file_item(str(file), Path(file)))
    except Unusable as unusable:
        raise DataError(str(file), str(unusable), REMEDY) from unusable
