"""Changes of shape: pixels to channels and back, padding, cropping, concatenation of a conditioning image."""

import torch
from torch import Tensor
from torch.nn import functional as F


def match_size(x: Tensor, like: Tensor) -> Tensor:
    """Crop x at the bottom and the right to the size of `like`: upsampling odd sizes gives one pixel too many."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad with zeros at the bottom and the right until height and width are multiples."""
    height, width = x.shape[-2:]
    return F.pad(x, (0, -width % multiple, 0, -height % multiple))


def concat_condition_image(x: Tensor, image: Tensor | None, channels: int) -> Tensor:
    """Concatenate the conditioning image; zeros if absent; x unchanged if channels == 0."""
    if channels == 0:
        return x
    return torch.cat([x, x.new_zeros(len(x), channels, *x.shape[2:]) if image is None else image], dim=1)


def space_to_depth(x: Tensor, by: int = 2) -> Tensor:
    """(B, C, H, W) -> (B, by^2 C, H/by, W/by): each square of pixels becomes one pixel; memory stays channels-last."""
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(b, h // by, by, w // by, by, c).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h // by, w // by, by * by * c).permute(0, 3, 1, 2)


def depth_to_space(x: Tensor, by: int = 2) -> Tensor:
    """The inverse of `space_to_depth`."""
    b, c, h, w = x.shape
    x = x.permute(0, 2, 3, 1).reshape(b, h, w, by, by, c // by**2).permute(0, 1, 3, 2, 4, 5)
    return x.reshape(b, h * by, w * by, c // by**2).permute(0, 3, 1, 2)
