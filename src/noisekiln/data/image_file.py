"""Reading of one image file, with the checks of a data set."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.decode import Header, Unusable, decode, header, silent, transparency
from noisekiln.data.deep import Range, windows_of
from noisekiln.data.source import Item, file_item
from noisekiln.errors import DataError

REMEDY = "Give another image, or save it again as PNG"


def read_image_file(file: str | Path, *, channels: int) -> NDArray[np.uint8]:
    """An image file as (H, W, channels) uint8: upright, its first frame, in sRGB, on white where it is transparent.

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
            window = _window_of_image(head)
            image = decode(item, in_colour=channels == 3, window=window, about=(head.height, head.width))
    except Unusable as unusable:
        raise DataError(item.name, str(unusable), REMEDY) from unusable
    pixels = np.array(image)
    return pixels if pixels.ndim == 3 else pixels[..., None]


def _window_of_image(head: Header) -> Range | None:
    """The values of black and white in an image of more than 8 bits, by the range of its numbers.

    A data set is scaled by its own extremes instead; a single image of whole numbers must keep its brightness.
    """
    if head.deep is None:
        return None
    if head.deep.real:
        return windows_of([head.deep]).real
    low, high = head.deep.low, head.deep.high
    return min(low, 0.0), next((white for white in (255.0, 65535.0) if high <= white), high)


def read_transparency(file: str | Path) -> NDArray[np.float32] | None:
    """Transparency of each pixel, (H, W) of 0 to 1; None for a file without transparency. Raises DataError."""
    try:
        with silent():
            return transparency(file_item(str(file), Path(file)))
    except Unusable as unusable:
        raise DataError(str(file), str(unusable), REMEDY) from unusable
