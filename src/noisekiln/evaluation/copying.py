"""Whether samples are copies of training images: found among the pixels, calibrated on images that were held out."""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.data import Split
from noisekiln.evaluation.score_table import ComparedScore, at_once, describe_score
from noisekiln.metrics.estimated import Estimated
from noisekiln.metrics.memorised import closest_pairs, memorised

SIDE = 32  # pixels to which larger images are reduced: copies stay copies, and there are fewer numbers to compare
PAIRS = 12


class Copying(NamedTuple):
    """Copies among samples.

    Attributes:
        score: Share of memorised samples, beside that of held-out images.
        pairs: Rows of the samples that are most like one training image, and of these images.
        ratios: Distance to that image over the distance to the next, of each pair.
    """

    score: ComparedScore
    pairs: list[tuple[int, int]]
    ratios: list[float]


def find_copies(samples: Tensor, training: Split, held_out: Split | None) -> Copying | None:
    """Copies of training images among samples; None if there are too few training images to tell.

    Args:
        samples: Samples, (N, H, W, C) uint8.
        training: The images that the model learned.
        held_out: Images that it did not learn, as calibration.
    """
    points = small_pixels(torch.from_numpy(training.pixels))
    try:
        found = memorised(small_pixels(samples), points)
        real = None
        if held_out is not None and len(held_out):
            real = memorised(small_pixels(torch.from_numpy(held_out.pixels[: len(samples)])), points)
    except ValueError:  # fewer than 20 different training images
        return None
    score = describe_score(
        "memorised",
        Estimated(found.fraction, found.standard_error),
        None if real is None else Estimated(real.fraction, real.standard_error),
    )
    pairs = [(int(sample), int(image)) for sample, image in closest_pairs(found, PAIRS)]
    return Copying(score, pairs, [float(found.ratio[sample]) for sample, _ in pairs])


def small_pixels(images: Tensor) -> Tensor:
    """Images (N, H, W, C) uint8 as rows of numbers from 0 to 1, reduced to at most 32 pixels a side."""
    parts = []
    for part in images.split(at_once(images)):
        x = part.permute(0, 3, 1, 2).float() / 255
        size = [min(SIDE, side) for side in x.shape[2:]]
        x = x if list(x.shape[2:]) == size else F.interpolate(x, size, mode="area")
        parts.append(x.flatten(1))
    return torch.cat(parts)
