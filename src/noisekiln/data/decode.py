"""Decoding of one image file to a grey or RGB image of 8 bits; every failure is reported as a reason in words."""

import threading
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from noisekiln.data import colour, deep
from noisekiln.data.deep import Extremes, Range, Values
from noisekiln.data.formats import ARRAY, FORMATS, HEAD, foreign_content
from noisekiln.data.png_without_text import without_long_text
from noisekiln.data.source import Item
from noisekiln.data.values import MIN_SIDE, to_byte
from noisekiln.errors import reason_of

MAX_PIXELS = 89_478_485  # Pillow's own limit: a small file that claims more counts as a decompression bomb
LARGE = 1 << 25  # pixels: larger images are decoded one at a time, to bound the memory of all threads
GREY = frozenset({"1", "L", "LA", "La"})
SIDEWAYS = frozenset({5, 6, 7, 8})  # the EXIF orientations that swap width and height
ORIENTATION = 0x0112
UPRIGHT = dict(
    zip(
        range(2, 9),
        [
            Image.Transpose.FLIP_LEFT_RIGHT,
            Image.Transpose.ROTATE_180,
            Image.Transpose.FLIP_TOP_BOTTOM,
            Image.Transpose.TRANSPOSE,
            Image.Transpose.ROTATE_270,
            Image.Transpose.TRANSVERSE,
            Image.Transpose.ROTATE_90,
        ],
        strict=True,
    )
)
_one_large = threading.RLock()


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
        cut: Whether it has 16 bits of which only the upper 8 can be read.
        profile: Name of the colour profile by which it is converted to sRGB, "" for none, `colour.UNREADABLE`.
        cmyk: Whether its colours are those of print.
    """

    height: int
    width: int
    grey: bool
    transparent: bool
    animated: bool
    deep: Extremes | None = None
    cut: bool = False
    profile: str = ""
    cmyk: bool = False


class Unusable(Exception):
    """An image that cannot be used; the message is the reason."""


class _Opened(NamedTuple):
    """An image with its header read, and its values if it has more than 8 bits; then the image is loaded, too."""

    image: Image.Image
    values: Values | None


def header(item: Item) -> Header:
    """Reads an item's header (and, of more than 8 bits, its values). Raises Unusable."""
    with _open_item(item) as (image, values):
        width, height = image.size
        if _orientation(image) in SIDEWAYS:
            width, height = height, width
        return Header(
            height,
            width,
            grey=image.mode in GREY if values is None else values.ndim == 2,
            transparent=image.has_transparency_data,
            animated=bool(getattr(image, "is_animated", False)),
            deep=None if values is None else _finite(deep.extremes_of(values)),
            cut=deep.is_cut(image),
            profile=colour.profile_name(image),
            cmyk=image.mode == "CMYK",
        )


def decode(item: Item, *, in_colour: bool, window: Range | None, about: tuple[int, int]) -> Image.Image:
    """The first frame, upright, on white, in sRGB, as an RGB or grey ("L") image. Raises Unusable.

    Args:
        item: The image.
        in_colour: Whether the result is RGB; otherwise it is grey.
        window: Values that become 0 and 255 in an image of more than 8 bits.
        about: Height and width that the result is scaled to later: a far larger JPEG is decoded at reduced size.
    """
    with _open_item(item) as (image, values):
        if values is None or window is None:
            image.draft(None, (2 * max(about), 2 * max(about)))
            image.load()
        shown = image if values is None or window is None else _in_8_bits(image, values, window)
        plain, mode = colour.on_white(shown), "RGB" if in_colour else "L"
        plain = plain if plain.mode == mode else plain.convert(mode)  # a large image is not copied without need
        turn = UPRIGHT.get(_orientation(image))
        return plain if turn is None else plain.transpose(turn)


def transparency(item: Item) -> Values | None:
    """Transparency of each pixel of the upright image, (H, W) of 0 to 1; None without transparency. Raises Unusable."""
    with _open_item(item) as (image, _):
        if not image.has_transparency_data:
            return None
        opacity = (image.convert("LA") if image.mode == "La" else image).convert("RGBA").getchannel("A")
        turn = UPRIGHT.get(_orientation(image))
        return (1 - np.asarray(opacity if turn is None else opacity.transpose(turn), np.float32) / 255).astype(
            np.float32
        )


def one_large(pixels: int) -> AbstractContextManager[Any]:
    """Waits until no other thread holds a large image, if this one is large by its number of pixels."""
    return _one_large if pixels > LARGE else nullcontext()


@contextmanager
def silent() -> Iterator[None]:
    """Without Pillow's warnings, on broken EXIF data for example: they name neither file nor remedy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _open_item(item: Item) -> Iterator[_Opened]:
    """The image with its header read; any failure until it is closed is raised as Unusable."""
    try:
        with item.open() as handle:
            opened = _Opened(handle, None) if isinstance(handle, Image.Image) else _identified(handle)
            pixels = opened.image.width * opened.image.height
            if pixels > MAX_PIXELS:
                raise Unusable(
                    f"{opened.image.height}x{opened.image.width} is over {MAX_PIXELS / 1e6:.0f} million pixels"
                )
            with one_large(pixels):
                yield opened if opened.values is not None else _Opened(opened.image, deep.deep_values(opened.image))
    except Unusable:
        raise
    except Exception as error:  # Pillow's plugins raise errors of any class on broken bytes
        raise Unusable(_reason(error)) from error


def _identified(handle: BinaryIO) -> _Opened:
    """The image, identified by its content, not by its suffix."""
    head = handle.read(HEAD)
    if not head:
        raise Unusable("an empty file (0 bytes)")
    if foreign := foreign_content(head):
        raise Unusable(foreign)
    handle.seek(0)
    if head.startswith(ARRAY):
        return _from_array(np.load(handle, allow_pickle=False))
    return _Opened(Image.open(without_long_text(handle), formats=FORMATS), None)


def _from_array(array: Values) -> _Opened:
    """An array (H, W), (H, W, C) or (C, H, W) as an image; of more than 8 bits, the image has its size and opacity."""
    saved = array
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
        array = array.transpose(1, 2, 0)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    if not fits or min(array.shape[:2]) < MIN_SIDE or array.dtype.kind not in "buif":
        stack = "; to use a stack of images, give that file" if saved.ndim in (3, 4) else ""
        raise Unusable(f"an array of {saved.dtype} of shape {saved.shape}, not one image (H, W) or (H, W, C){stack}")
    if array.dtype.kind == "b":
        array = array.astype(np.uint8) * np.uint8(255)
    if array.dtype == np.uint8:
        return _Opened(Image.fromarray(np.ascontiguousarray(array)), None)
    size = array.shape[1], array.shape[0]
    if array.ndim == 2 or array.shape[2] == 3:
        return _Opened(Image.new("L" if array.ndim == 2 else "RGB", size), array)
    top = deep.windows_of([deep.extremes_of(array[..., 3])]).of(deep.extremes_of(array[..., 3]))
    layer = Image.new("RGBA", size)
    layer.putalpha(Image.fromarray(to_byte(array[..., 3], *(top or (0.0, 1.0)))))
    return _Opened(layer, array[..., :3])


def _in_8_bits(image: Image.Image, values: Values, window: Range) -> Image.Image:
    """The values scaled to bytes, with the transparency and the colour profile of the image."""
    scaled = Image.fromarray(to_byte(values, *window))
    if image.mode == "RGBA":
        scaled.putalpha(image.getchannel("A"))
    scaled.info["icc_profile"] = image.info.get("icc_profile")
    return scaled


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 if there is none or the data are broken.

    A PNG that keeps them at its end would have to be decoded to read them: they are known only once it is loaded.
    """
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    try:
        return int(image.getexif().get(ORIENTATION, 1))
    except Exception:  # Pillow raises errors of any class on broken EXIF data, which do not hurt the pixels
        return 1


def _reason(error: Exception) -> str:
    """The reason why a file cannot be used, in words."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image: its content is in no known image format, or of a rare kind of one"
    if isinstance(error, Image.DecompressionBombError):
        return f"over {MAX_PIXELS / 1e6:.0f} million pixels"
    if isinstance(error, MemoryError):
        return "too large for the memory"
    if isinstance(error, OSError) and error.errno is not None:
        return f"cannot be opened: {error.strerror}"
    return f"cut short or damaged: {reason_of(error)}"


def _finite(extremes: Extremes) -> Extremes:
    if not np.isfinite([extremes.low, extremes.high]).all():
        raise Unusable("it holds values that are not finite numbers")
    return extremes
