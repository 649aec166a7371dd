"""Decoding of one image file to a grey or RGB image of 8 bits; every failure is reported as a reason in words."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from noisekiln.data.source import Item
from noisekiln.data.values import to_byte

# Common formats only: Pillow's rarer plugins are where its security holes have been.
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "AVIF", "TGA")
SUFFIXES = frozenset(
    {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"}
    | {".ppm", ".pgm", ".pbm", ".pnm", ".avif", ".tga"}
)
MAX_PIXELS = 89_478_485  # Pillow's own limit: a small file that claims more counts as a decompression bomb
GREY = frozenset({"1", "L", "LA", "La"})
SIDEWAYS = frozenset({5, 6, 7, 8})  # the EXIF orientations that swap width and height
ORIENTATION = 0x0112

Range = tuple[float, float]


@dataclass(frozen=True)
class Header:
    """Facts about an image before it is decoded.

    Attributes:
        height: Height of the upright image in pixels.
        width: Width of the upright image in pixels.
        grey: Whether it is grey.
        transparent: Whether it has transparency.
        animated: Whether it has several frames.
        deep: Its smallest and largest value if it has more than 8 bits, else None.
    """

    height: int
    width: int
    grey: bool
    transparent: bool
    animated: bool
    deep: Range | None


class Unusable(Exception):
    """An image that cannot be used; the message is the reason."""


def header(item: Item) -> Header:
    """Reads an item's header (and, of more than 8 bits, its values). Raises Unusable."""
    with _open_item(item) as image:
        width, height = image.size
        if _has_exif(image) and image.getexif().get(ORIENTATION) in SIDEWAYS:
            width, height = height, width
        return Header(
            height,
            width,
            grey=image.mode in GREY or _is_deep(image),
            transparent=image.has_transparency_data,
            animated=bool(getattr(image, "is_animated", False)),
            deep=_extremes(image) if _is_deep(image) else None,
        )


def decode(item: Item, *, colour: bool, window: Range | None, about: tuple[int, int]) -> Image.Image:
    """The first frame, upright, on white, as an RGB or grey ("L") image. Raises Unusable.

    Args:
        item: The image.
        colour: Whether the result is RGB; otherwise it is grey.
        window: Values that become 0 and 255 in images of more than 8 bits.
        about: Height and width that the result is scaled to later: a far larger JPEG is decoded at reduced size.
    """
    with _open_item(item) as image:
        image.draft(None, (2 * max(about), 2 * max(about)))
        upright = ImageOps.exif_transpose(image)
        if window is not None and _is_deep(upright):
            upright = Image.fromarray(to_byte(np.asarray(upright), *window))
        return _image_on_white(upright).convert("RGB" if colour else "L")


@contextmanager
def _open_item(item: Item) -> Iterator[Image.Image]:
    """The image with its header read; any failure until it is closed is raised as Unusable."""
    try:
        with item.open() as handle:
            image = handle if isinstance(handle, Image.Image) else _identified(handle)
            if image.width * image.height > MAX_PIXELS:
                raise Unusable(f"{image.height}x{image.width} is over {MAX_PIXELS / 1e6:.0f} million pixels")
            yield image
    except Unusable:
        raise
    except Exception as error:  # Pillow's plugins raise errors of any class on broken bytes
        raise Unusable(_reason(error)) from error


def _identified(handle: BinaryIO) -> Image.Image:
    """The image, identified by its content, not by its suffix."""
    if not handle.read(1):
        raise Unusable("an empty file (0 bytes)")
    handle.seek(0)
    return Image.open(handle, formats=FORMATS)


def _reason(error: Exception) -> str:
    """The reason why a file cannot be used, in words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image: its content is in no known image format"
    if isinstance(error, Image.DecompressionBombError):
        return f"over {MAX_PIXELS / 1e6:.0f} million pixels"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened: {error.strerror}"
    return f"cut short or damaged: {error}"


def _has_exif(image: Image.Image) -> bool:
    """Whether it has EXIF data; a PNG that keeps them at its end would have to be decoded to read them."""
    return image.format != "PNG" or "exif" in image.info


def _is_deep(image: Image.Image) -> bool:
    """Whether it has more than 8 bits of grey."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _extremes(image: Image.Image) -> Range:
    """The smallest and the largest value; reads the whole image."""
    values = np.asarray(image)
    low, high = float(values.min()), float(values.max())
    if not np.isfinite([low, high]).all():
        raise Unusable("it holds values that are not finite numbers")
    return low, high


def _image_on_white(image: Image.Image) -> Image.Image:
    """Transparent parts become white: the colours hidden there are often garbage."""
    if not image.has_transparency_data:
        return image
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
