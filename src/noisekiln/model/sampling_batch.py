"""Number of images that are sampled at once: as many as memory holds, measured where that could be less than 64."""

from collections.abc import Callable
from functools import partial

import torch

from noisekiln.codecs.base import Codec, Size
from noisekiln.machine.memory import free_bytes, peak_bytes_of
from noisekiln.model.sampling import BATCH_SIZE

SHARE = 0.5  # of the free memory that a batch may take: kernels need workspaces, and other programs may start
# Memory of a step with guidance for each number of an image or of its x, more than any network here needs (LOG.md).
BYTES_PER_NUMBER = 16_000


def fitting_batch(
    trial: Callable[[int], object], count: int, numbers: int, device: torch.device
) -> int | Callable[[], int]:
    """Images to sample at once, or a function that finds their number by a trial, for `generate_in_batches`.

    Arguments are those of `largest_sampling_batch`.
    """
    if _scarce_bytes(count, numbers, device) is None:
        return _in_equal_batches(count, min(count, BATCH_SIZE))
    return partial(largest_sampling_batch, trial, count, numbers, device)


def largest_sampling_batch(trial: Callable[[int], object], count: int, numbers: int, device: torch.device) -> int:
    """Images to sample at once: those that fit into memory, at most 64, in batches of about equal size.

    Small images are not measured, so they cost nothing. Otherwise the first step of one image is, and of two if not all
    fit by that (a part of the memory is the same for any number): at most three of ``count * steps`` evaluations.

    Args:
        trial: Function that does one step of sampling with so many images, and decodes them.
        count: Images in all.
        numbers: Numbers of an image, or of its x if those are more; see `numbers_of_image`.
        device: Device of the model.
    """
    most, room = min(count, BATCH_SIZE), _scarce_bytes(count, numbers, device)
    return _in_equal_batches(count, most if room is None else _images_that_fit(trial, most, room))


def _scarce_bytes(count: int, numbers: int, device: torch.device) -> float | None:
    """Bytes that a batch may take; None if the largest one takes fewer, or free memory is unknown."""
    most = min(count, BATCH_SIZE)
    free = free_bytes(device) if most > 1 else None
    return None if free is None or most * numbers * BYTES_PER_NUMBER <= SHARE * free else SHARE * free


def _in_equal_batches(count: int, most: int) -> int:
    """Images of each of as few batches as possible, with at most so many."""
    return -(-count // -(-count // max(most, 1))) if count else 1


def _images_that_fit(trial: Callable[[int], object], most: int, room: float) -> int:
    """Images whose peak memory is at most `room` bytes, from 1 to `most`."""
    one = peak_bytes_of(partial(trial, 1))
    if most * one <= room:
        return most
    if 2 * one > room:  # two are not tried: they may not fit
        return 1
    more = max(peak_bytes_of(partial(trial, 2)) - one, 1)
    return max(1, min(most, 1 + int((room - one) / more)))


def numbers_of_image(codec: Codec, size: Size) -> int:
    """Numbers of an image of (height, width) pixels, or of its x if those are more."""
    (height, width), (x_height, x_width) = size, codec.x_size(size)
    return max(codec.image_channels * height * width, codec.x_channels * x_height * x_width)
