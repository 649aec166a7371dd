"""Images together with their mirror images, by number."""

import numpy as np
from numpy.typing import NDArray


def images_at(pixels: NDArray[np.uint8], places: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Images by number, as a copy: 0 to N-1 are those of `pixels`, N to 2N-1 the same flipped left to right.

    Args:
        pixels: (N, H, W, C).
        places: (B,) numbers.

    Returns:
        (B, H, W, C).
    """
    images: NDArray[np.uint8] = pixels[places % len(pixels)]
    flipped = places >= len(pixels)
    images[flipped] = images[flipped, :, ::-1]
    return images
