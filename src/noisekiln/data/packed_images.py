"""Image files as bytes in one array, with an array of the places where each begins."""

import io
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.source import Item
from noisekiln.errors import DataError


def packed_images(name: str, encoded: NDArray[Any], offsets: NDArray[Any]) -> tuple[Item, ...]:
    """Image number i is encoded[offsets[i]:offsets[i + 1]].

    Raises:
        DataError: If these are not bytes, or not whole numbers that rise from 0 to the number of bytes.
    """
    whole = offsets.ndim == 1 and offsets.dtype.kind in "iu" and len(offsets) > 1
    places = offsets.astype(np.int64) if whole else np.zeros(0, np.int64)
    if encoded.dtype != np.uint8 or encoded.ndim != 1 or not whole or not _rises(places, len(encoded)):
        raise DataError(
            name,
            f"its image files are {encoded.dtype} of shape {encoded.shape}, their places {offsets.dtype} of shape "
            f"{offsets.shape}: the places do not cut the bytes into files",
            'Save "jpeg", the bytes of all files, and "offsets", where each begins and where the last one ends',
        )
    spans = zip(places[:-1].tolist(), places[1:].tolist(), strict=True)
    return tuple(Item(f"number {i}", partial(_open_span, encoded, *span)) for i, span in enumerate(spans))


def _rises(places: NDArray[np.int64], end: int) -> bool:
    return bool(places[0] >= 0 and places[-1] <= end and np.all(np.diff(places) >= 0))


def _open_span(encoded: NDArray[Any], start: int, end: int) -> io.BytesIO:
    return io.BytesIO(encoded[start:end].tobytes())
