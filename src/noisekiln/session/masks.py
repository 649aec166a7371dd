"""Masks of missing pixels: from a drawn mask, boxes, a colour, or transparency."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import read_image_file, read_transparency
from noisekiln.files.pictures import ImageArray
from noisekiln.session.inputs import NoteCallback
from noisekiln.uses.fit_image import fit_to_model_size, resize


@dataclass(frozen=True)
class MaskOptions:
    """Masks of the missing pixels of an image; the union of all of them is missing.

    Attributes:
        mask: An image of the same size: white is missing, grey is mixed.
        boxes: Boxes in pixels, each "left,top,right,bottom".
        colour: Six hexadecimal digits: pixels of this colour are missing.
        invert: Whether the pixels that are not marked are generated instead.
    """

    mask: Path | None = None
    boxes: tuple[str, ...] = ()
    colour: str | None = None
    invert: bool = False

    @property
    def by_transparency(self) -> bool:
        """Whether there is no other mask, so that the transparent pixels are missing."""
        return self.mask is None and not self.boxes and self.colour is None

    def missing(self, file: Path, pixels: ImageArray, size: tuple[int, int], note: NoteCallback) -> Tensor:
        """(H, W) of 0 to 1, 1 where a pixel is missing, for the image after fitting to the model.

        Args:
            file: The image.
            pixels: The image after fitting, (H, W, C).
            size: Height and width of the model's images.
            note: Called if a mask is ambiguous.

        Raises:
            ValueError: If nothing is marked, or a mark cannot be understood.
        """
        marked = self._marked(file, note)
        if marked.shape == pixels.shape[:2]:
            return torch.from_numpy(marked.astype(np.float32))
        grey = (marked[..., None] * 255).round().astype(np.uint8)
        fitted = fit_to_model_size(grey, size, exactly=pixels.shape[:2] == size)[0]
        fitted = fitted if fitted.shape[:2] == pixels.shape[:2] else resize(grey, (pixels.shape[0], pixels.shape[1]))
        return torch.from_numpy(fitted[..., 0].astype(np.float32) / 255)

    def _marked(self, file: Path, note: NoteCallback) -> NDArray[np.float32]:
        """The union of the masks, at the size of the file."""
        original = read_image_file(file, channels=3)
        marked = np.zeros(original.shape[:2], dtype=np.float32)
        if self.mask is not None:
            drawn = _drawn(self.mask, note)
            if drawn.shape != original.shape[:2]:
                raise ValueError(
                    f"The mask {self.mask} has {drawn.shape[0]}x{drawn.shape[1]} pixels and {file} "
                    f"{original.shape[0]}x{original.shape[1]}. Give a mask of the image's size."
                )
            marked = np.maximum(marked, drawn)
        for box in self.boxes:
            left, top, right, bottom = _parse_box(box, original)
            marked[top:bottom, left:right] = 1
        if self.colour is not None:
            marked = np.maximum(marked, (original == _colour(self.colour)).all(-1))
        if self.by_transparency:
            transparency = read_transparency(file)
            if transparency is None:
                raise ValueError(
                    f"No pixel of {file} is marked as missing: it has no transparent pixels, and no mask was given. "
                    "Give a `mask`, a `box` as left,top,right,bottom, or a `colour` such as ff00ff."
                )
            marked = transparency
        return 1 - marked if self.invert else marked


def _drawn(mask: Path, note: NoteCallback) -> NDArray[np.float32]:
    """The pixels that a mask image marks, (H, W) of 0 to 1: light pixels, or opaque ones if it has transparency."""
    transparency = read_transparency(mask)
    if transparency is None or not transparency.any():
        grey = read_image_file(mask, channels=1)[..., 0]
        if grey.max() == 1:
            note(f"{mask} holds only 0 and 1, as masks of segmentation do: 1 is missing.")
            return grey.astype(np.float32)
        return (grey / 255).astype(np.float32)
    note(f"{mask} is partly transparent: its opaque pixels are missing (with `invert`, the transparent ones).")
    return 1 - transparency


def _parse_box(text: str, image: ImageArray) -> tuple[int, int, int, int]:
    height, width = image.shape[:2]
    words = text.split(",")
    numbers = [int(word) for word in words if word.strip().isdecimal()]
    if len(words) == len(numbers) == 4:
        left, top, right, bottom = numbers
        if left < right <= width and top < bottom <= height:
            return left, top, right, bottom
    raise ValueError(
        f"`box={text}` is not a box in an image {width} pixels wide and {height} high. Give left,top,right,bottom, "
        f"counted from the upper left corner: 0,0,{width // 2},{height} is its left half."
    )


def _colour(text: str) -> NDArray[np.uint8]:
    digits = text.removeprefix("#")
    try:
        if len(digits) == 6:
            return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
    except ValueError:
        pass
    raise ValueError(f"`colour={text}` is not a colour. Give six hexadecimal digits, such as ff00ff.")
