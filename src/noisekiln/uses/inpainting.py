"""Inpainting: generate the missing pixels of an image."""

from collections.abc import Iterator
from typing import Any, Unpack

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.data.rows import as_array
from noisekiln.images import ImageLike, single_image
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import map_images
from noisekiln.model.sampling import Progress
from noisekiln.operators.mask import Mask
from noisekiln.tasks.inpaint import Inpaint
from noisekiln.uses.fit_image import as_floats, as_uint8, crop_images, pad_for_codec
from noisekiln.uses.inverse_problem import solve_inverse_problem
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.task_model import apply_task

MaskLike = NDArray[Any] | Tensor | Image.Image


@answering_unknown_names("arguments of uses")
def inpaint(
    model: Diffusion,
    image: ImageLike,
    missing: MaskLike,
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Generate the missing pixels of an image; the known ones do not change.

    Args:
        model: Model of such images, or one trained to inpaint them.
        image: One image of any kind; its values at missing pixels do not matter.
        missing: (H, W), 1 or True where a pixel is missing and 0 where it is known; values between are blended. Bytes
            go from 0 to 255, as in a picture of a mask; bytes of only 0 and 1 are such a mask too. Or a PIL image.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`, such as ``count=4`` or ``condition="boot"``.

    Raises:
        ValueError: If the mask has another size or other values, or no pixel or every pixel is missing.
    """
    pixels, missing = as_uint8(model, single_image(image)), read_mask(missing)
    size = (pixels.shape[1], pixels.shape[2])
    check_mask(missing, size)
    padded = pad_for_codec(model, pixels[0].numpy())
    larger = (padded.shape[0], padded.shape[1])
    known = F.pad((missing < 0.5).float(), (0, larger[1] - size[1], 0, larger[0] - size[0]))
    if model.task is None:
        operator = Mask(known)
        seen = operator(as_floats(model, padded))
        progress = solve_inverse_problem(model, seen, operator, size=larger, method=method, **options)
    else:
        with_holes = torch.cat([as_uint8(model, padded), 255 * known[None, ..., None].byte()], dim=-1)
        progress = apply_task(model, with_holes, Inpaint, method=method, **options)
    cropped = crop_images(progress, size)
    return map_images(cropped, lambda images: blend(images, pixels.to(images.device), missing.to(images.device)))


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
