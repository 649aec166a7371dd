"""Whether samples look real from afar: clipped density of images whose details are averaged away."""

from collections.abc import Callable, Generator

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.evaluation.compute import Computing, EvaluationProgress
from noisekiln.evaluation.score_table import ComparedScore, Halving, averaged
from noisekiln.metrics.clipped import ClippedReference

FACTOR = 3  # times smaller: at half the size some grain is left, at a quarter little else (LOG.md)
SMALLEST_SIDE = 8  # pixels that are left of an image, at least: of fewer, everything looks alike
MOST = 200  # images of each kind


def coarse_density(
    samples: Tensor, pool: Tensor, halving: Halving, features_of: Callable[..., Computing]
) -> Generator[EvaluationProgress, None, ComparedScore | None]:
    """Density of samples, beside that of real images, all averaged over squares of `FACTOR` pixels.

    Samples of good shapes and colours that grain or blur keeps away from real images have a high one.

    Args:
        samples: Samples, (n, H, W, C) uint8.
        pool: Real images, (2n, H, W, C) uint8.
        halving: Rows of the real images that are compared with, and the other ones.
        features_of: Computes features of images, with a `part` for the progress.

    Returns:
        The score; None for images that are too small.
    """
    if min(samples.shape[1:3]) < FACTOR * SMALLEST_SIDE:
        return None
    reference, real = (torch.as_tensor(rows)[:MOST] for rows in halving)
    found = []
    for images in (pool[reference], samples[:MOST], pool[real]):
        found.append((yield from features_of(_without_details(images), part="features of images without details")))
    balls = ClippedReference(found[0])
    return averaged("density", [balls.density(found[1])], [balls.density(found[2])])


def _without_details(images: Tensor) -> Tensor:
    """Images (N, H, W, C) uint8 of the same size, each square of `FACTOR` pixels as its mean."""
    x = images.permute(0, 3, 1, 2).float()
    height, width = x.shape[2:]
    small = F.interpolate(x, (height // FACTOR, width // FACTOR), mode="area")
    x = F.interpolate(small, (height, width), mode="bilinear", align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
