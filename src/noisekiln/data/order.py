"""The order of training images: a pure function of seed and position, so that resuming needs no saved state."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from noisekiln.errors import DataError


def batch_order(num_images: int, *, seed: int, start: int, count: int) -> NDArray[np.int64]:
    """The images at positions start..start+count-1 in an endless stream of shuffled epochs.

    Epoch e is a permutation that depends on (num_images, seed, e) alone. A batch may cross its border or be larger.
    So a run that has seen k images resumes with start=k, and two processes share a batch by splitting start and count.

    Args:
        num_images: Number of images in the data set, 1 or more.
        seed: Any integer.
        start: Number of images before, 0 or more.
        count: Number of images to return, 0 or more.

    Returns:
        (count,) int64, each 0..num_images-1.

    Raises:
        DataError: If num_images < 1, or start or count is negative.
    """
    if num_images < 1 or start < 0 or count < 0:
        raise DataError(
            f"batch_order(num_images={num_images}, start={start}, count={count})",
            "an order needs at least one image, and begins at number 0",
            "Give num_images of 1 or more, start and count of 0 or more",
        )
    pieces = []
    position, end = start, start + count
    while position < end:
        epoch, offset = divmod(position, num_images)
        piece = _permutation(num_images, seed % 2**64, epoch)[offset : offset + end - position]
        pieces.append(piece)
        position += len(piece)
    return np.concatenate(pieces) if pieces else np.empty(0, np.int64)


@lru_cache(maxsize=2)  # this epoch's, and its neighbour's while a batch crosses the border
def _permutation(num_images: int, seed: int, epoch: int) -> NDArray[np.int64]:
    """Sorts raw Philox numbers: numpy promises to keep those, but not the results of its shuffles."""
    draws = np.random.Philox(key=np.array([seed, epoch], np.uint64)).random_raw(num_images)
    order: NDArray[np.int64] = np.argsort(draws, kind="stable").astype(np.int64, copy=False)
    order.flags.writeable = False  # it is shared by all callers
    return order
