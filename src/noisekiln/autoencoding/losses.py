"""Losses of reconstructed images that need no network of others."""

from functools import cache
from math import pi

import torch
from torch import Tensor
from torch.nn import functional as F

PYRAMID = (1.0, 0.5, 0.25)  # weights of full, half and quarter size
BLOCK = 8  # pixels of a side of the squares whose amplitudes are compared
TINY = 1e-6  # added to squared amplitudes, whose root has no derivative at 0


def pyramid_l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error at full, half and quarter size, weighted: (B, C, H, W) twice -> (B,)."""
    total = torch.zeros(len(image), device=image.device)
    for level, weight in enumerate(PYRAMID):
        if level:
            if min(image.shape[-2:]) < 2:
                break
            image, target = F.avg_pool2d(image, 2), F.avg_pool2d(target, 2)
        total = total + weight * (image - target).abs().flatten(1).mean(1)
    return total


def spectrum_l1(image: Tensor, target: Tensor) -> Tensor:
    """Mean absolute difference of the amplitudes of 8x8 blocks, on two grids: (B, C, H, W) twice -> (B,).

    A mean of possible images is blurred, and its high amplitudes too small: this loss says so where a difference of
    pixels does not. Amplitudes know nothing of phase, so it stands beside such a difference.
    """
    terms = [
        (_amplitudes(image[..., start:, start:]) - _amplitudes(target[..., start:, start:])).abs().flatten(1).mean(1)
        for start in (0, BLOCK // 2)
        if min(image.shape[-2:]) >= BLOCK + start
    ]
    return torch.stack(terms).mean(0) if terms else torch.zeros(len(image), device=image.device)


def _amplitudes(image: Tensor) -> Tensor:
    """Amplitudes of the discrete Fourier transform of every whole block: (B, C, rows, columns, 8, 8)."""
    rows, columns = image.shape[-2] // BLOCK, image.shape[-1] // BLOCK
    cropped = image[..., : rows * BLOCK, : columns * BLOCK].float()
    blocks = cropped.unflatten(-2, (rows, BLOCK)).unflatten(-1, (columns, BLOCK)).transpose(-3, -2)
    cos, sin = (wave.to(blocks) for wave in _waves())
    with torch.autocast(image.device.type, enabled=False):  # 16 bits are too few for differences of amplitudes
        by_cos, by_sin = blocks @ cos, blocks @ sin
        real, imaginary = cos @ by_cos - sin @ by_sin, cos @ by_sin + sin @ by_cos
        amplitudes: Tensor = (real.square() + imaginary.square() + TINY).sqrt()
    return amplitudes


@cache
def _waves() -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the unitary matrix of the transform, both symmetric."""
    angle = 2 * pi / BLOCK * torch.outer(torch.arange(BLOCK), torch.arange(BLOCK)).double()
    return torch.cos(angle) / BLOCK**0.5, -torch.sin(angle) / BLOCK**0.5
