"""Pictures for people: grids, labelled sheets, strips and animations, and their files."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from noisekiln.files.atomic import unsynced_write
from noisekiln.files.png_text import png_text

ImageArray = NDArray[np.uint8]
"""An image (H, W, C), or several (N, H, W, C)."""


def to_pil(pixels: ImageArray) -> Image.Image:
    """An image of (H, W, C) uint8 with 1, 2, 3 or 4 channels; of more, the first three are shown."""
    channels = pixels.shape[-1]
    if channels == 1:
        return Image.fromarray(pixels[..., 0])
    return Image.fromarray(np.ascontiguousarray(pixels[..., : min(channels, 4) if channels < 5 else 3]))


def tile(images: ImageArray, columns: int, *, gap: int = 1, background: int = 255) -> ImageArray:
    """Images (N, H, W, C) side by side in rows of `columns`, `gap` pixels of background around each: (H', W', C)."""
    count, height, width, channels = images.shape
    rows = -(-count // columns)
    sheet = np.full((rows * (height + gap) + gap, columns * (width + gap) + gap, channels), background, dtype=np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (height + gap), gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


def concat_horizontally(images: Sequence[ImageArray], *, gap: int = 4, background: int = 255) -> ImageArray:
    """Images (H, W, C) of one height and number of channels side by side, in one (H, W', C)."""
    first, *others = images
    between = np.full((first.shape[0], gap, first.shape[2]), background, dtype=np.uint8)
    return np.concatenate([first, *(part for image in others for part in (between, image))], axis=1)


def concat_with_labels(sheets: Sequence[ImageArray], labels: Sequence[str], *, side: int = 256) -> ImageArray:
    """Sheets of any sizes side by side in colour, enlarged to `side` pixels or more, with labels below."""
    gap, line = 8, 28
    images = [to_pil(sheet).convert("RGB") for sheet in sheets]
    images = [ImageOps.scale(image, max(1, -(-side // max(image.size))), Image.Resampling.NEAREST) for image in images]
    width = sum(image.width + gap for image in images) - gap
    strip = Image.new("RGB", (width, max(image.height for image in images) + line), "white")
    draw, left = ImageDraw.Draw(strip), 0
    for image, label in zip(images, labels, strict=True):
        strip.paste(image, (left, 0))
        middle = (left + image.width / 2, strip.height - line / 2)
        draw.text(middle, label, fill="black", font=ImageFont.load_default(20), anchor="mm")
        left += image.width + gap
    return np.asarray(strip)


def save_image(pixels: ImageArray, file: Path, *, at_least: int = 0, text: Mapping[str, Any] | None = None) -> None:
    """Write a PNG, enlarged by a whole factor so that its longer side has `at_least` pixels or more.

    Args:
        pixels: (H, W, C) uint8.
        file: The file.
        at_least: Pixels of the longer side.
        text: How the image was made, as text in the file.
    """
    factor = max(1, -(-at_least // max(pixels.shape[:2])))
    image = to_pil(pixels)
    file.parent.mkdir(parents=True, exist_ok=True)
    large = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    with unsynced_write(file) as draft:
        large.save(draft, "PNG", pnginfo=png_text(text) if text else None)


def enlarge_to_fit(pixels: ImageArray, size: tuple[int, ...]) -> ImageArray:
    """An image in the middle of a sheet of (height, width), as large as whole factors and the sheet allow."""
    height, width = size
    factor = max(1, min(height // pixels.shape[0], width // pixels.shape[1]))
    shown = pixels.repeat(factor, 0).repeat(factor, 1)[:height, :width]
    sheet = np.full((height, width, pixels.shape[2]), 255, dtype=np.uint8)
    top, left = (height - shown.shape[0]) // 2, (width - shown.shape[1]) // 2
    sheet[top : top + shown.shape[0], left : left + shown.shape[1]] = shown
    return sheet


def save_strip_and_animations(
    frames: ImageArray, folder: Path, *, seconds: float = 0.1, text: Mapping[str, Any] | None = None
) -> list[Path]:
    """Frames (N, H, W, C) as `strip.png`, with `text`, and as an endless `animation.gif` and `animation.webp`."""
    save_image(tile(frames, columns=len(frames)), folder / "strip.png", at_least=512, text=text)
    factor = max(1, -(-256 // max(frames.shape[1:3])))
    large = [to_pil(frame.repeat(factor, 0).repeat(factor, 1)) for frame in frames]
    files = [folder / "animation.gif", folder / "animation.webp"]
    for file in files:
        more: dict[str, Any] = {"lossless": True} if file.suffix == ".webp" else {}
        large[0].save(
            file,
            save_all=True,
            append_images=large[1:] + large[-2:0:-1],
            duration=round(1000 * seconds),
            loop=0,
            **more,
        )
    return [folder / "strip.png", *files]
