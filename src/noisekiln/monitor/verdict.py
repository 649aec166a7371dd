"""What held-out images say of a run, in words: improving, flat or memorising."""

from collections.abc import Sequence
from math import sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CLEAR = 2.0  # standard errors by which errors must differ to count as different


class Evaluation(NamedTuple):
    """Errors of the same images under the same noise, at one moment of training.

    Attributes:
        images_seen: The moment.
        held_out: Of images that training does not see, (N, levels).
        train: Of images that it does see, (M, levels).
    """

    images_seen: int
    held_out: NDArray[np.float64]
    train: NDArray[np.float64]


class Verdict(NamedTuple):
    """How it goes.

    Attributes:
        word: "improving", "flat", "memorising" or "worsening".
        since: Images seen at the moment from which on it has gone so.
    """

    word: str
    since: int

    @property
    def advice(self) -> str:
        """What it means and what to do, in a sentence or two."""
        told = {
            "improving": "images that it never saw are denoised better and better; more training may help further",
            "flat": "images that it never saw are denoised no better than then; a larger model or more images would "
            "bring more than more training",
            "memorising": "it still learns its own images, and denoises others worse than it did then; "
            "more images would help, or a shorter run",
            "worsening": "it denoises all images worse than it did then, its own too; take a lower --lr",
        }
        return f"{self.word} since {self.since:,} images: {told[self.word]}"


def verdict(history: Sequence[Evaluation]) -> Verdict | None:
    """The verdict on evaluations in order, or None while there are fewer than three, which say nothing yet.

    Noise and images are the same each time, so what counts are differences of pairs, which are known much better than
    the errors themselves. It is *memorising* if held-out images are clearly worse than when they were best, and
    training images are not; *worsening* if both are. Otherwise the last third of the images seen decides: clearly
    better is *improving*, anything else *flat*. Clearly is by more than two standard errors.
    """
    if len(history) < 3:
        return None
    now = history[-1]
    best = min(history, key=lambda then: then.held_out.mean())
    if _rose(best.held_out, now.held_out):
        return Verdict("worsening" if _rose(best.train, now.train) else "memorising", best.images_seen)
    earlier = [then for then in history[:-1] if then.images_seen <= now.images_seen * 2 / 3]
    before = earlier[-1] if earlier else history[0]
    return Verdict("improving" if _rose(now.held_out, before.held_out) else "flat", before.images_seen)


def _rose(then: NDArray[np.float64], now: NDArray[np.float64]) -> bool:
    """Whether errors (N, levels) are clearly larger now: the mean of the images' differences, by its standard error."""
    differences = (now - then).mean(axis=1)
    error = differences.std(ddof=1) / sqrt(len(differences))
    return bool(differences.mean() > CLEAR * error)
