"""How well images survive a codec: PSNR, SSIM, a picture of both, and how smooth its latents are."""

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from noisekiln.codecs.base import Codec, pixels_per_position
from noisekiln.data import Split
from noisekiln.files.pictures import ImageArray, tile
from noisekiln.metrics.similarity import psnr, ssim
from noisekiln.metrics.spectrum import spectrum_slope

AT_ONCE = 16  # images that are encoded and decoded at once


class Quality(NamedTuple):
    """Similarity of reconstructed images to their originals, means over the images.

    Attributes:
        psnr: Peak signal-to-noise ratio in decibels.
        ssim: Structural similarity, 1 for equal images.
        images: Number of images.
    """

    psnr: float
    ssim: float
    images: int


class Slopes(NamedTuple):
    """Slopes of power spectra over the frequencies that both have; nan where there are too few of them.

    Attributes:
        latents: Slope of latents.
        images: Slope of their images.
    """

    latents: float
    images: float


def evenly_spaced(part: Split, count: int) -> Tensor:
    """At most `count` images, evenly spaced, (N, H, W, C) uint8."""
    rows = np.linspace(0, len(part) - 1, min(count, len(part))).round().astype(int)
    return torch.from_numpy(np.ascontiguousarray(part.pixels[rows]))


@torch.no_grad()
def reconstruct(codec: Codec, images: Tensor) -> Tensor:
    """Images (N, H, W, C) uint8 in main memory, encoded and decoded."""
    size, device = (images.shape[1], images.shape[2]), next(codec.parameters()).device
    parts = [codec.decode(codec.encode(part.to(device)), size).cpu() for part in images.split(AT_ONCE)]
    return torch.cat(parts)


def quality_of(images: Tensor, originals: Tensor) -> Quality:
    """Similarity of images (N, H, W, C) uint8 to their originals."""
    return Quality(float(psnr(images, originals).mean()), float(ssim(images, originals).mean()), len(images))


@torch.no_grad()
def slopes_of(codec: Codec, images: Tensor) -> Slopes:
    """How fast the power of latents falls with frequency, and that of their images (N, H, W, C) uint8.

    A diffusion model works from low frequencies to high ones, so latents should be as smooth as images
    (Skorokhodov et al. 2025, arXiv 2502.14831).
    """
    device = next(codec.parameters()).device
    x = torch.cat([codec.encode(part.to(device)).cpu() for part in images.split(AT_ONCE)])
    highest = 0.5 / max(pixels_per_position(codec))
    return Slopes(spectrum_slope(x), spectrum_slope(images.permute(0, 3, 1, 2), highest))


def side_by_side(images: Tensor, originals: Tensor) -> ImageArray:
    """Originals in the first row, reconstructions below: (H', W', C) uint8."""
    return tile(torch.cat([originals, images]).numpy(), columns=len(images))
