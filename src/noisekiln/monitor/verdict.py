"""Verdict on a run from its held-out losses: improving, flat, memorising or worsening."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLEAR = 2.0  # standard errors by which errors must differ to count as different


class Evaluation(NamedTuple):
    """Errors of fixed images with fixed noise, at one moment of training.

    Attributes:
        images_seen: Images seen by training at that moment.
        held_out: Errors of images that training does not see, (N, levels).
        train: Errors of images that it does see, (M, levels).
    """

    images_seen: int
    held_out: NDArray[np.float64]
    train: NDArray[np.float64]


class Verdict(NamedTuple):
    """The trend of held-out losses.

    Attributes:
        trend: "improving", "flat", "memorising" or "worsening".
        since: Images seen when the trend started.
    """

    trend: str
    since: int

    @property
    def advice(self) -> str:
        """The meaning of the trend and what to do, in a sentence or two."""
        meaning = {
            "improving": "held-out images are denoised better and better; more training may help further",
            "flat": "held-out images are denoised no better than at that point; a larger model or more images would "
            "help more than more training",
            "memorising": "training images are still learned, but held-out images are denoised worse than at that "
            "point; more images would help, or a shorter run",
            "worsening": "all images are denoised worse than at that point, training images too; use a lower `lr`",
        }
        return f"{self.trend} since {self.since:,} images: {meaning[self.trend]}"


def verdict(history: Sequence[Evaluation]) -> Verdict | None:
    """The verdict on evaluations in order, or None while there are fewer than three.

    Noise and images are the same each time, so the test uses differences of pairs, which vary much less than the errors
    themselves. The run is *memorising* if held-out images are clearly worse than at their best, and training
    images are not; *worsening* if both are. Otherwise the last third of the images seen decides: clearly better is
    *improving*, anything else *flat*. "Clearly" means by more than two standard errors.
    """
    if len(history) < 3:
        return None
    now = history[-1]
    best = min(history, key=lambda each: each.held_out.mean())
    if _is_clearly_larger(best.held_out, now.held_out):
        return Verdict("worsening" if _is_clearly_larger(best.train, now.train) else "memorising", best.images_seen)
    earlier = [each for each in history[:-1] if each.images_seen <= now.images_seen * 2 / 3]
    before = earlier[-1] if earlier else history[0]
    return Verdict("improving" if _is_clearly_larger(now.held_out, before.held_out) else "flat", before.images_seen)


def _is_clearly_larger(before: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
    """Whether errors (N, levels) are clearly larger now: the mean of the images' differences, by its standard error."""
    differences = (now - before).mean(axis=1)
    error = differences.std(ddof=1) / sqrt(len(differences))
    return bool(differences.mean() > CLEAR * error)
