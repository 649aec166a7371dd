"""Convolution of images with one kernel."""

import torch
from torch import Tensor
from torch.nn import functional as F


def convolve(images: Tensor, kernel: Tensor) -> Tensor:
    """Convolve every channel of (B, C, H, W) with a kernel of odd sides, (h, w); borders are mirrored."""
    height, width = images.shape[-2:]
    rows = _mirrored(height, kernel.shape[0] // 2, images.device)
    columns = _mirrored(width, kernel.shape[1] // 2, images.device)
    padded = images[..., rows, :][..., columns].flatten(0, 1)[:, None]
    return F.conv2d(padded, kernel[None, None]).view(images.shape)


def _mirrored(count: int, margin: int, device: torch.device) -> Tensor:
    """Indices -margin ... count + margin - 1, reflected into the image about its border pixels as often as needed."""
    period = max(2 * count - 2, 1)
    index = torch.arange(-margin, count + margin, device=device).abs() % period
    return torch.where(index < count, index, period - index)
