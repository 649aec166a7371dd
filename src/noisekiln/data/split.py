"""The split into training and held-out images, for sources without a test part."""

import numpy as np
from numpy.typing import NDArray

MIN_IMAGES = 10  # with fewer images, holding one out costs more than it is worth
MAX_HELD_OUT = 10_000


def held_out(count: int) -> NDArray[np.bool_]:
    """(count,) True for a tenth of the images (at most 10,000; none of fewer than 10), the same on every machine."""
    chosen = np.zeros(count, np.bool_)
    if count >= MIN_IMAGES:
        chosen[np.argsort(_scramble(count), kind="stable")[: min(count // 10, MAX_HELD_OUT)]] = True
    return chosen


def _scramble(count: int) -> NDArray[np.uint64]:
    """splitmix64 of 0..count-1: fixed arithmetic, so that no version of numpy changes the choice."""
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))
