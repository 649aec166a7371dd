"""A note on images that are almost of one colour, such as masks of 0 and 1, or values that a single pixel stretched."""

from collections.abc import Sequence

import numpy as np

from noisekiln.data.dataset import Altered, Split

LOOKED_AT, SIDE = 64, 128  # images; and pixels of a side, at least
ALMOST_ALL = (0.1, 99.9)  # percentiles
SEEN = 16  # of 255: a smaller range of values looks like one colour


def contrast_note(parts: Sequence[Split]) -> list[Altered]:
    """The note, if nearly all values of some images of the training part are nearly equal."""
    pixels = parts[0].pixels
    every, step = max(1, len(pixels) // LOOKED_AT), max(1, min(pixels.shape[1:3]) // SIDE)
    low, high = np.percentile(pixels[::every, ::step, ::step], ALMOST_ALL)
    if high - low >= SEEN:
        return []
    return [
        Altered(
            f"Almost all values lie between {low:.0f} and {high:.0f} of 255, so the images look like one colour: "
            "check how they were saved."
        )
    ]
