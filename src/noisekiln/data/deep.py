"""Values of images with more than 8 bits, which Pillow would cut to 8, and the range by which they are scaled."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from noisekiln.data.values import full_scale

Range = tuple[float, float]
Values = NDArray[Any]  # (H, W), or (H, W, 3)
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # the tag of a TIFF that says what is white
GREY_ALPHA = "LA;16B"
# Pillow keeps the upper byte of each 16-bit colour. Read in the other byte order, the "upper" byte is the lower one.
SWAPPED = {
    f"{mode};16{order}": f"{mode};16{other}"
    for mode in ("RGB", "RGBA", "RGBX")
    for order, other in (("L", "B"), ("B", "L"), ("N", "B" if np.little_endian else "L"))
} | {GREY_ALPHA: "RGBA"}  # two bytes of grey and two of opacity


@dataclass(frozen=True)
class Extremes:
    """The smallest and largest value of an image of more than 8 bits, and whether its values are floats."""

    low: float
    high: float
    real: bool


@dataclass(frozen=True)
class Windows:
    """Values that become 0 and 255: of images of whole numbers, and of images of floats; None if there are none."""

    whole: Range | None = None
    real: Range | None = None

    def of(self, extremes: Extremes | None) -> Range | None:
        """The window of an image; None if it has 8 bits."""
        if extremes is None:
            return None
        return self.real if extremes.real else self.whole


def windows_of(extremes: Iterable[Extremes]) -> Windows:
    """One window for all images of each kind, so that they stay comparable.

    Whole numbers: 0 (or the smallest, if it is negative) to the smallest 2^k - 1 that holds them all. Floats: 0 to 1,
    -1 to 1 or 0 to 255 if these hold them all, otherwise their smallest to their largest value.
    """
    known = tuple(extremes)
    whole, real = ([each for each in known if each.real == real] for real in (False, True))
    return Windows(_whole_window(*_limits(whole)) if whole else None, _real_window(*_limits(real)) if real else None)


def extremes_of(values: Values) -> Extremes:
    """The extremes of an image's values; they may be infinite or nan."""
    return Extremes(float(values.min()), float(values.max()), values.dtype.kind == "f")


def deep_values(image: Image.Image) -> Values | None:
    """Values of an open image of more than 8 bits, without its transparency; None for one of 8 bits."""
    if is_grey(image):
        values = np.asarray(image)
        inverted = getattr(image, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO and values.dtype.itemsize == 2
        return 65535 - values if inverted else values
    modes = _raw_modes(image)
    if modes and all(mode in SWAPPED for mode in modes):
        return _colours_of_16_bits(image, grey=GREY_ALPHA in modes)
    return None


def is_cut(image: Image.Image) -> bool:
    """Whether it has 16 bits of which only the upper 8 can be read."""
    return not is_grey(image) and any(";16" in mode and mode not in SWAPPED for mode in _raw_modes(image))


def is_grey(image: Image.Image) -> bool:
    """Whether it is of grey values of more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def _colours_of_16_bits(image: Image.Image, *, grey: bool) -> Values:
    """The upper bytes, as Pillow reads them, and the lower ones from a second reading of the file."""
    assert isinstance(image, ImageFile.ImageFile)
    assert image.fp is not None  # it is not loaded yet
    image.fp.seek(0)
    again = Image.open(io.BytesIO(image.fp.read()), formats=(image.format or "",))
    assert isinstance(again, ImageFile.ImageFile)
    again.tile = [tile._replace(args=_swapped(tile.args)) for tile in again.tile]
    other = np.asarray(again).astype(np.uint16)
    if grey:
        return other[..., 0] << 8 | other[..., 1]
    return np.asarray(image)[..., :3].astype(np.uint16) << 8 | other[..., :3]


def _raw_modes(image: Image.Image) -> list[str]:
    tiles = image.tile if isinstance(image, ImageFile.ImageFile) else []
    modes = [tile.args[0] if isinstance(tile.args, tuple) and tile.args else tile.args for tile in tiles]
    return [mode for mode in modes if isinstance(mode, str)]


def _swapped(args: Any) -> Any:
    return (SWAPPED[args[0]], *args[1:]) if isinstance(args, tuple) else SWAPPED[args]


def _limits(extremes: list[Extremes]) -> Range:
    return min(each.low for each in extremes), max(each.high for each in extremes)


def _whole_window(low: float, high: float) -> Range:
    return min(0.0, low), full_scale(high)


def _real_window(low: float, high: float) -> Range:
    for bottom, top in ((0.0, 1.0), (-1.0, 1.0)):
        if bottom <= low and high <= top:
            return bottom, top
    if low >= 0 and 128 <= high <= 255:
        return 0.0, 255.0
    return low, high if high > low else low + 1
