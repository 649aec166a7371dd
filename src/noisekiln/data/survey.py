"""Survey of all files' headers before any is decoded: which are usable, how deep they are, and notes about them."""

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.dataset import Skipped
from noisekiln.data.decode import Header, Range, Unusable, header
from noisekiln.data.gallery import THREADS, Pictures
from noisekiln.data.source import Item
from noisekiln.data.values import full_scale

Usable = tuple[Pictures, NDArray[np.int64]]  # the usable files, and their numbers among all of the part


def survey(parts: Sequence[tuple[Item, ...]]) -> tuple[list[Usable], list[Skipped], list[str]]:
    """Every part's usable files, the skipped ones, and notes."""
    looks = [_headers(items) for items in parts]
    good = [[(i, look) for i, look in enumerate(part) if isinstance(look, Header)] for part in looks]
    headers = [look for part in good for _, look in part]
    window = _window([look.deep for look in headers if look.deep is not None])
    pictures = [
        (Pictures(tuple(items[i] for i, _ in part), tuple(look for _, look in part), window), _numbers(part))
        for items, part in zip(parts, good, strict=True)
    ]
    skipped = [
        Skipped(item.name, look)
        for items, part in zip(parts, looks, strict=True)
        for item, look in zip(items, part, strict=True)
        if isinstance(look, str)
    ]
    return pictures, skipped, list(_notes(headers, window))


def _numbers(part: list[tuple[int, Header]]) -> NDArray[np.int64]:
    return np.array([i for i, _ in part], np.int64)


def _headers(items: Sequence[Item]) -> list[Header | str]:
    """Every item's header, or the reason why it cannot be used."""

    def look(item: Item) -> Header | str:
        try:
            return header(item)
        except Unusable as error:
            return str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such files are skipped, and listed
        return list(threads.map(look, items))


def _window(extremes: list[Range]) -> Range | None:
    """One range for all images of more than 8 bits, so that they stay comparable."""
    if not extremes:
        return None
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    if high <= 1 and low >= -1:
        return (0.0 if low >= 0 else -1.0), 1.0
    return min(0.0, low), full_scale(high)


def _notes(headers: list[Header], window: Range | None) -> Iterable[str]:
    if window is not None:
        deep = sum(look.deep is not None for look in headers)
        yield f"{_images(deep)} of more than 8 bits: values of {window[0]:g} to {window[1]:g} were scaled to 0 to 255."
    if transparent := sum(look.transparent for look in headers):
        yield f"{_images(transparent)} with transparency: composited onto white."
    if animated := sum(look.animated for look in headers):
        yield f"{_images(animated)} with several frames: the first is used."


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count:,} images"
