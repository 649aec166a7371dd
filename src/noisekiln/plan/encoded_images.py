"""X of all images of a data set, encoded once by all processes together."""

from collections.abc import Generator
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.codecs.base import Codec
from noisekiln.data.mirrored import images_at
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_balanced
from noisekiln.machine.memory import retry_with_halves

ENCODED_AT_ONCE = 64  # images of a process between two reports of progress, and in memory at once


def encode_images(
    codec: Codec, pixels: NDArray[np.uint8], count: int, device: str, ranks: Ranks
) -> Generator[tuple[int, int], None, Tensor]:
    """Encode images, then their mirror images, yielding images done, and in all; returns x of all.

    Each process encodes its share, with all processor cores that torch may use, and receives those of the others. All
    processes call this together, take as many values, and leave after the same one if they do not take them all. A
    mirror image is encoded anew: its x is not the mirror image of x.

    Args:
        codec: The codec, on `device`.
        pixels: Images (N, H, W, C) uint8.
        count: N, or 2 N with mirror images.
        device: Device of the codec.
        ranks: The processes.

    Returns:
        X in half precision and in main memory, (count, C', H', W'), equal in all processes.
    """
    shares = split_balanced(count, ranks.world_size)
    own, at_once = np.array(shares[ranks.rank], np.int64), ENCODED_AT_ONCE
    x = torch.empty(len(own), codec.x_channels, *codec.x_size((pixels.shape[1], pixels.shape[2])), dtype=torch.float16)
    for start in range(0, max(map(len, shares)), ENCODED_AT_ONCE):
        part = slice(start, start + ENCODED_AT_ONCE)
        at_once = retry_with_halves(partial(_encode_into, x[part], codec, pixels, own[part], device), at_once)
        yield sum(min(len(share), part.stop) for share in shares), count
    return ranks.all_gather(x, count)


@torch.no_grad()
def _encode_into(
    x: Tensor, codec: Codec, pixels: NDArray[np.uint8], places: NDArray[np.int64], device: str, at_once: int
) -> int:
    """Encode the images at these places, `at_once` in memory, into x; returns `at_once`."""
    for start in range(0, len(places), at_once):
        images = torch.from_numpy(images_at(pixels, places[start : start + at_once]))
        x[start : start + at_once] = codec.encode(images.to(device))
    return at_once
