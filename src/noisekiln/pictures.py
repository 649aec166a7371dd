"""Images as people look at them: grids, and files."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def to_pil(pixels: Pixels) -> Image.Image:
    """An image of (H, W, C) uint8 with 1, 2, 3 or 4 channels; of more, the first three are shown."""
    channels = pixels.shape[-1]
    if channels == 1:
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(np.ascontiguousarray(pixels[..., : min(channels, 4) if channels < 5 else 3]))


def tile(images: Pixels, columns: int, *, gap: int = 1, paper: int = 255) -> Pixels:
    """Images (N, H, W, C) side by side in rows of `columns`, with `gap` pixels of paper around each: (H', W', C)."""
    n, height, width, channels = images.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), paper, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def beside(left: Pixels, right: Pixels, *, gap: int = 4, paper: int = 255) -> Pixels:
    """Two pictures of one height next to each other."""
    between = np.full((left.shape[0], gap, left.shape[2]), paper, dtype=np.uint8)
    return np.concatenate([left, between, right], axis=1)


def save_picture(pixels: Pixels, file: Path, *, at_least: int = 0) -> None:
    """Write a PNG, enlarged by a whole factor so that its longer side has `at_least` pixels or more."""
    factor = max(1, -(-at_least // max(pixels.shape[:2])))
    picture = to_pil(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    picture.resize((picture.width * factor, picture.height * factor), Image.Resampling.NEAREST).save(file)
