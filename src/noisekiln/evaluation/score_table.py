"""The scores of samples beside the same scores of real images, at the same number of images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.features.base import PIXELS_AT_ONCE
from noisekiln.metrics.clipped import ClippedReference
from noisekiln.metrics.diversity import diversity
from noisekiln.metrics.estimated import Estimated
from noisekiln.metrics.frechet import frechet_distance
from noisekiln.metrics.kid import kernel_distance
from noisekiln.metrics.mind import sliced_distance
from noisekiln.metrics.similarity import psnr, ssim

Better = Literal["lower", "higher", "real"]
Halving = tuple[NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True)
class ComparedScore:
    """A score of samples, and of real images in their place.

    Attributes:
        name: Its key in reports.
        title: Its name for people.
        value: The score of the samples: the mean over splits of the real images.
        spread: Standard deviation over these splits, or the standard error.
        real: The score of real images at the same number of images; None where there is none.
        real_spread: Its spread.
        better: Whether lower or higher values are better; "real": the value of real images is best.
        about: What it says, in a sentence.
    """

    name: str
    title: str
    value: float
    spread: float
    real: float | None
    real_spread: float | None
    better: Better
    about: str

    @property
    def ratio(self) -> float | None:
        """The value over that of real images; None where that is not positive."""
        return self.value / self.real if self.real is not None and self.real > 0 else None


def scores_of_features(samples: Tensor, pool: Tensor, halvings: Sequence[Halving]) -> list[ComparedScore]:
    """Distances, density, coverage and diversity of samples, each beside real images in their place.

    In each halving, samples and one half of the real images are compared with the other half.

    Args:
        samples: Features of n samples, (n, D).
        pool: Features of 2n real images, (2n, D).
        halvings: Rows of the real images that are compared with, and the other ones.
    """
    halves = [(pool[reference], pool[real]) for reference, real in halvings]
    return [
        _compared("frechet", frechet_distance, samples, halves),
        _compared("kid", lambda some, reference: kernel_distance(some, reference).value, samples, halves),
        _compared("mind", sliced_distance, samples, halves),
        *_clipped(samples, halves),
        _diversity(samples, halves),
    ]


def _compared(
    name: str, distance: Callable[[Tensor, Tensor], float], samples: Tensor, halves: Sequence[tuple[Tensor, Tensor]]
) -> ComparedScore:
    values = [distance(samples, reference) for reference, _ in halves]
    reals = [distance(real, reference) for reference, real in halves]
    return averaged(name, values, reals)


def _clipped(samples: Tensor, halves: Sequence[tuple[Tensor, Tensor]]) -> list[ComparedScore]:
    balls = [(ClippedReference(reference), real) for reference, real in halves]
    density = [(each.density(samples), each.density(real)) for each, real in balls]
    coverage = [(each.coverage(samples), each.coverage(real)) for each, real in balls]
    return [
        averaged(name, [value for value, _ in pairs], [real for _, real in pairs])
        for name, pairs in (("density", density), ("coverage", coverage))
    ]


def _diversity(samples: Tensor, halves: Sequence[tuple[Tensor, Tensor]]) -> ComparedScore:
    value = diversity(samples)
    return averaged("diversity", [value] * len(halves), [diversity(real) for _, real in halves])


def similarity_scores(samples: Tensor, originals: Tensor) -> list[ComparedScore]:
    """Similarity of samples to their originals, for a model with a task."""
    parts = list(zip(*(images.split(at_once(samples)) for images in (samples, originals)), strict=True))
    found = {
        name: torch.cat([similarity(*part).double() for part in parts])
        for name, similarity in (("psnr", psnr), ("ssim", ssim))
    }
    count = len(samples)
    return [
        describe_score(name, Estimated(float(each.mean()), float(each.std()) / count**0.5 if count > 1 else 0.0), None)
        for name, each in found.items()
    ]


def at_once(images: Tensor) -> int:
    """How many of these images, (N, H, W, C) uint8, are to be floats at once: 4 million numbers, in ssim ten times."""
    return max(1, PIXELS_AT_ONCE // max(1, images[:1].numel()))


def averaged(name: str, values: Sequence[float], reals: Sequence[float]) -> ComparedScore:
    """A score from its values in each split of the real images."""
    found, real = (Estimated(mean(each), stdev(each) if len(each) > 1 else 0.0) for each in (values, reals))
    return describe_score(name, found, real)


def describe_score(name: str, found: Estimated, real: Estimated | None) -> ComparedScore:
    """A score with its title and meaning.

    Args:
        name: Its name, one of `MEANINGS`.
        found: The score of samples.
        real: That of real images, if there is one.
    """
    title, better, about = MEANINGS[name]
    value, spread = (None, None) if real is None else real
    return ComparedScore(name, title, *found, value, spread, better, about)


def density_of_each(samples: Tensor, pool: Tensor) -> Tensor:
    """How many neighbourhoods of real images hold each sample, (N,): low where no real image looks like it."""
    return ClippedReference(pool).density_of_each(samples).double()


MEANINGS: dict[str, tuple[str, Better, str]] = {
    "frechet": (
        "Fréchet distance",
        "lower",
        "Distance of Gaussians fitted to the features. It depends on the number of images: compare it only with that "
        "of real images.",
    ),
    "kid": (
        "KID",
        "lower",
        "Squared maximum mean discrepancy of the features. Real images have about 0, however many they are.",
    ),
    "mind": ("MIND", "lower", "Sliced Wasserstein distance of the features. It can be trusted for few images, too."),
    "density": ("density", "higher", "Clipped density: 0.8 means that 80 % of the samples lie where real images lie."),
    "coverage": ("coverage", "higher", "Clipped coverage: 0.8 means as much of the variety as 80 % real images show."),
    "diversity": ("diversity", "real", "Mean distance of two samples: lower than that of real images if less varied."),
    "memorised": (
        "memorised",
        "lower",
        "Share of samples that lie three times nearer to one training image than to any other. Beside it: held-out "
        "images.",
    ),
    "accuracy": ("class accuracy", "higher", "Share of samples in which a classifier sees the requested class."),
    "cas": ("CAS", "higher", "Accuracy on real images of a classifier that has learned from samples alone."),
    "psnr": ("PSNR", "higher", "Similarity to the original, in decibels."),
    "ssim": ("SSIM", "higher", "Structural similarity to the original, at most 1."),
}
