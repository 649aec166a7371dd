"""Survey of all files' headers before any is decoded: usable files, their range of values, and notes about them."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from noisekiln.data import colour
from noisekiln.data.dataset import Altered, Skipped
from noisekiln.data.decode import Header, Unusable, header, silent
from noisekiln.data.deep import Range, Windows, windows_of
from noisekiln.data.image_collection import THREADS, FileImages
from noisekiln.data.source import Item
from noisekiln.errors import counted

Usable = tuple[FileImages, NDArray[np.int64]]  # the usable files, and their indices in the part


def survey(parts: Sequence[tuple[Item, ...]]) -> tuple[list[Usable], list[Skipped], list[str]]:
    """The usable files of every part, the skipped files, and notes."""
    results = [_headers(items) for items in parts]
    good = [[(i, result) for i, result in enumerate(part) if isinstance(result, Header)] for part in results]
    headers = [head for part in good for _, head in part]
    windows = windows_of(head.deep for head in headers if head.deep is not None)
    files = [
        (FileImages(tuple(items[i] for i, _ in part), tuple(head for _, head in part), windows), _indices(part))
        for items, part in zip(parts, good, strict=True)
    ]
    skipped = [
        Skipped(item.name, result)
        for items, part in zip(parts, results, strict=True)
        for item, result in zip(items, part, strict=True)
        if isinstance(result, str)
    ]
    return files, skipped, [Altered(note) for note in _notes(headers, windows)]


def _indices(part: list[tuple[int, Header]]) -> NDArray[np.int64]:
    return np.array([i for i, _ in part], np.int64)


def _headers(items: Sequence[Item]) -> list[Header | str]:
    """Every item's header, or the reason why it cannot be used."""

    def read_header(item: Item) -> Header | str:
        try:
            return header(item)
        except Unusable as error:
            return str(error)

    with silent(), ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(read_header, items))


def _notes(headers: Sequence[Header], windows: Windows) -> Iterable[str]:
    for window, real, kind in ((windows.whole, False, "of more than 8 bits"), (windows.real, True, "of floats")):
        if window is not None:
            number = sum(head.deep is not None and head.deep.real == real for head in headers)
            yield f"{_counted(number)} {kind}: values of {_from_to(window)} were scaled to 0 to 255."
    facts = {
        "of 16 bits: the upper 8 are used": [head.cut for head in headers],
        "with transparency: composited onto white": [head.transparent for head in headers],
        "with several frames: the first is used": [head.animated for head in headers],
        "in the colours of print (CMYK): converted to RGB": [head.cmyk for head in headers],
        "with a broken colour profile: read as sRGB": [head.profile == colour.UNREADABLE for head in headers],
    }
    for fact, found in facts.items():
        if any(found):
            yield f"{_counted(sum(found))} {fact}."
    profiles = Counter(head.profile for head in headers if head.profile not in (colour.NONE, colour.UNREADABLE))
    if profiles:
        names = ", ".join(name for name, _ in profiles.most_common(3))
        yield f"{_counted(profiles.total())} with a colour profile ({names}): converted to sRGB."


def _from_to(window: Range) -> str:
    return f"{window[0]:g} to {window[1]:g}"


def _counted(count: int) -> str:
    return counted(count, "image")
