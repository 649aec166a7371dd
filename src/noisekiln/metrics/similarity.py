"""Similarity of restored images to their originals: PSNR and SSIM."""

import torch
from torch import Tensor
from torch.nn import functional as F


def psnr(images: Tensor, originals: Tensor) -> Tensor:
    """Peak signal-to-noise ratio, ``-10 log10 mean (a - b)^2``, of each image: (N,) in decibels; 100 for equal ones.

    Args:
        images: Restored images, (N, H, W, C) uint8.
        originals: Their originals, (N, H, W, C) uint8.
    """
    error = (images.double() - originals.double()).div(255).square().flatten(1).mean(1)
    return -10 * error.clamp(min=1e-10).log10()


def ssim(images: Tensor, originals: Tensor) -> Tensor:
    """Structural similarity of each image, (N,), 1 for equal ones (Wang et al. 2004, eq. 13).

    Means and variances are computed in a Gaussian window of 11 pixels and deviation 1.5, as in the paper, at positions
    inside the image only. For images smaller than that the window is as large as the image.

    Args:
        images: Restored images, (N, H, W, C) uint8.
        originals: Their originals, (N, H, W, C) uint8.
    """
    side = min(11, images.shape[1], images.shape[2])
    line = torch.arange(side, dtype=torch.float64, device=images.device) - (side - 1) / 2
    line = (-0.5 * (line / 1.5) ** 2).exp()
    window = (line[:, None] * line / line.sum() ** 2)[None, None]

    def mean(x: Tensor) -> Tensor:
        return F.conv2d(x, window)

    a, b = (x.double().div(255).permute(0, 3, 1, 2).flatten(0, 1)[:, None] for x in (images, originals))
    mean_a, mean_b = mean(a), mean(b)
    variance_a, variance_b = mean(a * a) - mean_a**2, mean(b * b) - mean_b**2
    covariance = mean(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    similarity = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    similarity = similarity / ((mean_a**2 + mean_b**2 + c1) * (variance_a + variance_b + c2))
    return similarity.flatten(1).mean(1).view(len(images), -1).mean(1)
