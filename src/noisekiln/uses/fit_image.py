"""Conversion of an image to the channels, the size and the x of a model."""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from noisekiln.codecs.base import Size, check_image_size, pixels_per_position
from noisekiln.errors import counted
from noisekiln.files.pictures import ImageArray
from noisekiln.images import ImageLike, single_image
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import map_images
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress
from noisekiln.model.tiling import windows
from noisekiln.operators.grayscale import Grayscale


def single_model(model: Model) -> Diffusion:
    """The model, if it is a single one; raises ValueError for a cascade, or for anything else."""
    if not isinstance(model, Diffusion):
        raise ValueError(
            f"This is a {type(model).__name__}, and this function needs a single model. "
            "Train one with `road=pixels`; or of a cascade, load one of its stages with noisekiln.load."
        )
    return model


def as_floats(model: Diffusion, image: ImageLike) -> Tensor:
    """One image -> (1, C', H, W) floats of [0, 1] in the model's channels: grey for grey, colour for colour.

    Raises:
        ValueError: For another shape or kind of array, or channels that cannot be converted to the model's.
    """
    single_model(model)
    floats = torch.from_numpy(np.array(single_image(image))).permute(2, 0, 1)[None].float() / 255
    actual, needed = floats.shape[1], model.codec.image_channels
    if actual == needed:
        return floats
    if (actual, needed) == (1, 3):
        return floats.expand(1, 3, -1, -1)
    if (actual, needed) == (3, 1):
        return Grayscale()(floats)
    has, needs = counted(actual, "channel"), counted(needed, "channel")
    raise ValueError(f"The image has {has}, the model needs {needed}. Convert it to {needs}.")


def as_uint8(model: Diffusion, image: ImageLike) -> Tensor:
    """The same as (1, H, W, C') uint8."""
    return (as_floats(model, image) * 255).round().to(torch.uint8).permute(0, 2, 3, 1)


@torch.no_grad()
def to_x(model: Diffusion, image: ImageLike) -> Tensor:
    """The encoded image x, (1, C', H', W') on the model's device."""
    return model.codec.encode(as_uint8(model, image).to(model.device))


def size_for_codec(model: Diffusion, size: Size) -> Size:
    """Height and width as they are, or the next larger ones that the codec divides, if it cannot encode these."""
    down, across = pixels_per_position(model.codec)
    larger = -(-size[0] // down) * down, -(-size[1] // across) * across
    if larger == size:
        return size
    try:
        check_image_size(model.codec, size, model.device)
    except ValueError:
        return larger
    return size


def pad_for_codec(model: Diffusion, image: ImageArray) -> ImageArray:
    """An image (H, W, C) or (H, W) with its last row and column repeated, up to a size that the codec can encode."""
    height, width = image.shape[:2]
    tall, wide = size_for_codec(model, (height, width))
    return np.pad(image, [(0, tall - height), (0, wide - width), *[(0, 0)] * (image.ndim - 2)], mode="edge")


def crop_images(progress: Iterable[Progress], size: Size) -> Iterator[Progress]:
    """The same progress, its images without what `pad_for_codec` added."""
    return map_images(progress, lambda images: images[:, : size[0], : size[1]])


def fit_to_model_size(image: ImageArray, least: tuple[int, int], *, exactly: bool = False) -> tuple[ImageArray, str]:
    """An image of a size that a model of (height, width) accepts, and a note on how it was scaled, "" if it was not.

    A smaller image is enlarged until it covers the model's size. A larger one is returned unchanged, to be sampled in
    tiles; with `exactly` it is scaled and its centre is cropped to the model's size.

    Raises:
        ValueError: If there would be too many tiles.
    """
    height, width = image.shape[:2]
    scale = max(least[0] / height, least[1] / width)
    if (height, width) == least:
        return image, ""
    if scale <= 1 and not exactly:
        count = len(windows((height, width), least))
        return image, f"{height}x{width} pixels are sampled in {count} overlapping tiles (`resize` scales them instead)"
    shape = (max(least[0], round(height * scale)), max(least[1], round(width * scale)))
    scaled = resize(image, shape)
    if not exactly:
        windows(shape, least)  # raises if there are too many
        return scaled, f"{height}x{width} pixels are fewer than the model's: scaled to {shape[0]}x{shape[1]}"
    top, left = (shape[0] - least[0]) // 2, (shape[1] - least[1]) // 2
    return scaled[top : top + least[0], left : left + least[1]], f"{height}x{width} pixels scaled to the model's size"


def resize(image: ImageArray, size: tuple[int, int]) -> ImageArray:
    """The image scaled with a bicubic filter: (H, W, C) uint8 -> (h, w, C) uint8."""
    parts = [
        Image.fromarray(np.ascontiguousarray(image[..., channel])).resize(size[::-1], Image.Resampling.BICUBIC)
        for channel in range(image.shape[-1])
    ]
    return np.stack([np.asarray(part) for part in parts], axis=-1)
