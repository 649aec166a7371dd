"""Which pixels are missing, from what a person marks them with."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.cli._show import say
from noisekiln.data import read_picture, read_transparency
from noisekiln.files.pictures import ImageArray
from noisekiln.uses.fit_image import fit, resize


def missing(
    file: Path,
    pixels: ImageArray,
    *,
    mask: Path | None,
    boxes: list[str],
    colour: str | None,
    invert: bool,
    size: tuple[int, int],
) -> Tensor:
    """(H, W) of 0 to 1, 1 where a pixel is missing, at the size of the picture as it was fitted to the model.

    Raises:
        ValueError: If nothing is marked, or a mark cannot be understood.
    """
    original = read_picture(file, channels=3)
    marked = np.zeros(original.shape[:2], dtype=np.float32)
    if mask is not None:
        drawn = _drawn(mask)
        if drawn.shape != original.shape[:2]:
            raise ValueError(
                f"The mask {mask} has {_told(drawn)} pixels and {file} {_told(original)}. Give a mask as large as it."
            )
        marked = np.maximum(marked, drawn)
    for box in boxes:
        left, top, right, bottom = _box(box, original)
        marked[top:bottom, left:right] = 1
    if colour is not None:
        marked = np.maximum(marked, (original == _colour(colour)).all(-1))
    if mask is None and not boxes and colour is None:
        transparent = read_transparency(file)
        if transparent is None:
            raise ValueError(
                f"Nothing says what is missing in {file}: it has no transparent pixels, and no mask was given. "
                "Give --mask FILE, --box left,top,right,bottom or --colour ff00ff."
            )
        marked = transparent
    marked = 1 - marked if invert else marked
    if original.shape[:2] == pixels.shape[:2]:
        return torch.from_numpy(marked.astype(np.float32))
    grey = (marked[..., None] * 255).round().astype(np.uint8)
    fitted = fit(grey, size, exactly=pixels.shape[:2] == size)[0]
    fitted = fitted if fitted.shape[:2] == pixels.shape[:2] else resize(grey, (pixels.shape[0], pixels.shape[1]))
    return torch.from_numpy(fitted[..., 0].astype(np.float32) / 255)


def _drawn(mask: Path) -> NDArray[np.float32]:
    """What a mask marks, (H, W) of 0 to 1: what is light, or of a drawing on a transparent ground, what is drawn."""
    clear = read_transparency(mask)
    if clear is None or not clear.any():
        return (read_picture(mask, channels=1)[..., 0] / 255).astype(np.float32)
    say(f"note: {mask} is transparent in places: what is drawn on it is missing (--invert: what is transparent).")
    return 1 - clear


def _box(text: str, image: ImageArray) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    words = text.split(",")
    numbers = [int(word) for word in words if word.strip().isdecimal()]
    if len(words) == len(numbers) == 4:
        left, top, right, bottom = numbers
        if left < right <= width and top < bottom <= height:
            return left, top, right, bottom
    raise ValueError(
        f"--box {text} is not a box in a picture of {width} pixels by {height}. Give left,top,right,bottom, counted "
        f"from the upper left corner: 0,0,{width // 2},{height} is its left half."
    )


def _colour(text: str) -> NDArray[np.uint8]:
    digits = text.removeprefix("#")
    try:
        if len(digits) == 6:
            return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    except ValueError:
        pass
    raise ValueError(f"--colour {text} is not a colour. Give six hexadecimal digits, such as ff00ff.")


def _told(image: NDArray[Any]) -> str:
    return f"{image.shape[0]}x{image.shape[1]}"
