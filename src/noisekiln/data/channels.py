"""A data set in other channels: grey as colour, and colour as grey."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.dataset import Altered, DataSet, Split

AT_ONCE = 1024  # images
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as of JPEG and Pillow


def with_channels(data: DataSet, channels: int) -> DataSet:
    """The data set with images of 1 channel (grey) or 3 (colour), and a note on it; its fingerprint stays.

    Grey becomes colour without a copy. Another number of channels is not converted.
    """
    if data.channels == channels or {data.channels, channels} != {1, 3}:
        return data
    how = "trained on in colour, as the model is" if channels == 3 else "trained on in grey, as the model is"
    note = Altered(f"The images are {'grey' if channels == 3 else 'in colour'}: {how}.")
    parts = [None if part is None else _part_in_channels(part, channels) for part in (data.train, data.held_out)]
    assert parts[0] is not None
    return replace(data, train=parts[0], held_out=parts[1], notes=(*data.notes, note))


def _part_in_channels(part: Split, channels: int) -> Split:
    if channels == 3:
        return replace(part, pixels=np.broadcast_to(part.pixels, (*part.pixels.shape[:3], 3)))
    out: NDArray[np.uint8] = np.empty((*part.pixels.shape[:3], 1), np.uint8)
    for start in range(0, len(out), AT_ONCE):
        out[start : start + AT_ONCE, ..., 0] = np.rint(part.pixels[start : start + AT_ONCE] @ LUMA)
    return replace(part, pixels=out)
