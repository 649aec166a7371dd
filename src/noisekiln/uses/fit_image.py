"""A person's picture, made to fit a model."""

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.tiling import windows
from noisekiln.operators.grayscale import Grayscale


def as_floats(model: Diffusion, image: ImageArray) -> Tensor:
    """(H, W, C) uint8 -> (1, C', H, W) floats of [0, 1] in the model's channels: grey for grey, colour for colour.

    Raises:
        ValueError: For another shape or kind of array, or channels that cannot be turned into the model's.
    """
    if not isinstance(model, Diffusion):
        raise ValueError(
            f"This is a {type(model).__name__}, and a picture is worked on by a single model. "
            "Load one with noisekiln.load; of a cascade, one of its stages."
        )
    image = np.asarray(image)
    if image.dtype != np.uint8 or image.ndim not in (2, 3):
        raise ValueError(
            f"An array of {image.dtype} with the shape {image.shape} is no picture. Give (height, width, channels) "
            "of uint8, 0 to 255."
        )
    image = image[..., None] if image.ndim == 2 else image
    floats = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    given, wanted = floats.shape[1], model.codec.channels
    if given == wanted:
        return floats
    if (given, wanted) == (1, 3):
        return floats.expand(1, 3, -1, -1)
    if (given, wanted) == (3, 1):
        return Grayscale()(floats)
    raise ValueError(f"A picture of {given} channels was given to a model of {wanted}. Give one of {wanted}.")


def fit(image: ImageArray, least: tuple[int, int], *, exactly: bool = False) -> tuple[ImageArray, str]:
    """A picture that a model of (height, width) can work on, and what was done to it, "" for nothing.

    What is smaller is enlarged until it covers the model's size; what is larger is left as it is, to be painted in
    tiles, unless `exactly` asks for the model's size, for which it is scaled and its middle kept.

    Raises:
        ValueError: If there would be more tiles than anybody waits for.
    """
    height, width = image.shape[:2]
    scale = max(least[0] / height, least[1] / width)
    if (height, width) == least:
        return image, ""
    if scale <= 1 and not exactly:
        return image, f"{height}x{width} pixels are painted in {len(windows((height, width), least))} overlapping tiles"
    shape = (max(least[0], round(height * scale)), max(least[1], round(width * scale)))
    scaled = resize(image, shape)
    if not exactly:
        windows(shape, least)  # says so, if they are too many
        return scaled, f"{height}x{width} pixels are fewer than the model's: scaled to {shape[0]}x{shape[1]}"
    top, left = (shape[0] - least[0]) // 2, (shape[1] - least[1]) // 2
    return scaled[top : top + least[0], left : left + least[1]], f"{height}x{width} pixels scaled to the model's size"


def resize(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """Bicubic, channel by channel: (H, W, C) uint8 -> (h, w, C) uint8."""
    parts = [
        Image.fromarray(np.ascontiguousarray(image[..., c])).resize(size[::-1], Image.Resampling.BICUBIC)
        for c in range(image.shape[-1])
    ]
    return np.stack([np.asarray(part) for part in parts], axis=-1)
