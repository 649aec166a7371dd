"""Masks of images: what is missing, read and checked, and results blended with what is known."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from noisekiln.data.rows import as_array

MaskLike = NDArray[Any] | Tensor | Image.Image


def check_mask(missing: Tensor, size: tuple[int, int]) -> None:
    """Raise ValueError for a mask of another size or with other values, or one by which nothing would be generated."""
    if tuple(missing.shape) != size:
        shape = "x".join(map(str, missing.shape))
        raise ValueError(
            f"The mask has {shape} pixels and the image {size[0]}x{size[1]}. Give a mask of the image's size."
        )
    outside = missing[~((missing >= 0) & (missing <= 1))]  # NaN too
    if len(outside):
        raise ValueError(
            f"The mask has the value {float(outside[0]):g}, and mask values lie in 0 to 1: the share that is missing. "
            "Give 1 where a pixel is missing and 0 where it is known, or bytes (uint8) of 0 to 255."
        )
    if not bool((missing > 0).any()):
        raise ValueError(
            "The mask is empty: no pixel is missing, so there is nothing to generate. Mark what should change."
        )
    if not bool((missing >= 0.5).any()):
        raise ValueError(
            f"The mask is nowhere above one half (at most {float(missing.max()):.3g}), so no pixel would be generated. "
            "Give 1, or 255 in bytes, where a pixel is missing."
        )
    if bool((missing == 1).all()):
        raise ValueError("The mask is full: no pixel is known. Leave some unmarked, or use `sample`.")


def read_mask(missing: MaskLike) -> Tensor:
    """A mask as floats, (H, W): the share of each pixel that is missing."""
    if isinstance(missing, Image.Image):
        missing = missing if missing.mode in ("1", "L", "P") else missing.convert("L")
    array = np.array(as_array(missing))
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"`missing` is a {type(missing).__name__}, and a mask is numbers or truth values. "
            "Give an array or a tensor (height, width), or a PIL image, such as PIL.Image.open(file)."
        )
    mask = torch.from_numpy(array)
    mask = mask[0] if mask.ndim in (3, 4) and len(mask) == 1 else mask
    mask = mask[..., 0] if mask.ndim == 3 and mask.shape[2] == 1 else mask
    is_picture = mask.dtype == torch.uint8 and bool((mask > 1).any())
    return mask.float() / 255 if is_picture else mask.float()


def blend(images: Tensor, pixels: Tensor, missing: Tensor) -> Tensor:
    """The images with their known pixels restored: (B, H, W, C) uint8."""
    share = missing[..., None]
    mixed = (share * images.float() + (1 - share) * pixels.float()).round().to(torch.uint8)
    return torch.where(share == 0, pixels, mixed)
