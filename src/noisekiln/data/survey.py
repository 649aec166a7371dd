"""Survey of all files' headers before any is decoded: usable files, their range of values, and notes about them."""

import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.dataset import Skipped
from noisekiln.data.decode import Header, Range, Unusable, header
from noisekiln.data.image_collection import THREADS, FileImages
from noisekiln.data.source import Item
from noisekiln.data.values import full_scale
from noisekiln.errors import counted

Usable = tuple[FileImages, NDArray[np.int64]]  # the usable files, and their indices in the part


def survey(parts: Sequence[tuple[Item, ...]]) -> tuple[list[Usable], list[Skipped], list[str]]:
    """The usable files of every part, the skipped files, and notes."""
    results = [_headers(items) for items in parts]
    good = [[(i, result) for i, result in enumerate(part) if isinstance(result, Header)] for part in results]
    headers = [head for part in good for _, head in part]
    window = _window_of_images([head.deep for head in headers if head.deep is not None])
    files = [
        (FileImages(tuple(items[i] for i, _ in part), tuple(head for _, head in part), window), _indices(part))
        for items, part in zip(parts, good, strict=True)
    ]
    skipped = [
        Skipped(item.name, result)
        for items, part in zip(parts, results, strict=True)
        for item, result in zip(items, part, strict=True)
        if isinstance(result, str)
    ]
    return files, skipped, list(_notes(headers, window))


def _indices(part: list[tuple[int, Header]]) -> NDArray[np.int64]:
    return np.array([i for i, _ in part], np.int64)


def _headers(items: Sequence[Item]) -> list[Header | str]:
    """Every item's header, or the reason why it cannot be used."""

    def read_header(item: Item) -> Header | str:
        try:
            return header(item)
        except Unusable as error:
            return str(error)

    with warnings.catch_warnings(), ThreadPoolExecutor(THREADS) as threads:
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # such files are skipped, and listed
        return list(threads.map(read_header, items))


def _window_of_images(extremes: list[Range]) -> Range | None:
    """One range for all images of more than 8 bits, so that they stay comparable."""
    if not extremes:
        return None
    low, high = min(low for low, _ in extremes), max(high for _, high in extremes)
    if high <= 1 and low >= -1:
        return (0.0 if low >= 0 else -1.0), 1.0
    return min(0.0, low), full_scale(high)


def _notes(headers: list[Header], window: Range | None) -> Iterable[str]:
    if window is not None:
        deep = sum(each.deep is not None for each in headers)
        yield f"{_counted(deep)} of more than 8 bits: values of {window[0]:g} to {window[1]:g} were scaled to 0 to 255."
    if transparent := sum(each.transparent for each in headers):
        yield f"{_counted(transparent)} with transparency: composited onto white."
    if animated := sum(each.animated for each in headers):
        yield f"{_counted(animated)} with several frames: the first is used."


def _counted(count: int) -> str:
    return counted(count, "image")
