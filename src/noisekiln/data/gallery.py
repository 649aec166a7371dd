"""Images while they are loaded: a Stack (an array) or Pictures (files), which yield frames of one size."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from os import cpu_count
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from noisekiln.data.decode import Header, Range, Unusable, decode
from noisekiln.data.resize import fit
from noisekiln.data.source import Item

Frame = NDArray[np.uint8] | str  # (H, W, C), or the reason why the image cannot be used
THREADS = min(8, cpu_count() or 1)


class Gallery(Protocol):
    """N images, of one size or many."""

    def __len__(self) -> int:
        """Number of images."""

    @property
    def channels(self) -> int:
        """1 if all are grey, else 3."""

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """How many images have each (height, width)."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of their files, if they come from files."""

    def take(self, chosen: NDArray[np.int64]) -> "Gallery":
        """The images with these numbers, in this order."""

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[Frame]:
        """Every image in order, fitted to (height, width)."""


@dataclass(frozen=True)
class Stack:
    """An array (N, H, W, C) of bytes, of which the images `chosen` (all if None) are used."""

    pixels: NDArray[np.uint8]
    chosen: NDArray[np.int64] | None = None
    names: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels if self.chosen is None else self.chosen)

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.pixels.shape[3])

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """All are of one size."""
        return Counter({(self.pixels.shape[1], self.pixels.shape[2]): len(self)})

    def take(self, chosen: NDArray[np.int64]) -> "Stack":
        """Copies nothing yet: the array may be memory-mapped."""
        return Stack(self.pixels, chosen if self.chosen is None else self.chosen[chosen])

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[Frame]:
        """Every image of an array is usable."""
        same = size == self.pixels.shape[1:3]
        for index in range(len(self.pixels)) if self.chosen is None else self.chosen:
            pixels = self.pixels[index]
            yield pixels if same else _array(fit(Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels), size))


@dataclass(frozen=True)
class Pictures:
    """Image files with readable headers. window: values that become 0 and 255 in those of more than 8 bits."""

    items: tuple[Item, ...]
    headers: tuple[Header, ...]
    window: Range | None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.items)

    @property
    def channels(self) -> int:
        """1 if all are grey, else 3."""
        return 1 if all(header.grey for header in self.headers) else 3

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Sizes of the upright images."""
        return Counter((header.height, header.width) for header in self.headers)

    @property
    def names(self) -> tuple[str, ...] | None:
        """The files' names."""
        return tuple(item.name for item in self.items)

    def take(self, chosen: NDArray[np.int64]) -> "Pictures":
        """Opens no file yet."""
        numbers = chosen.tolist()
        return Pictures(tuple(self.items[i] for i in numbers), tuple(self.headers[i] for i in numbers), self.window)

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[Frame]:
        """Decoded by a few threads, some hundred images ahead at most."""

        def frame(item: Item) -> Frame:
            try:
                return _array(fit(decode(item, colour=channels == 3, window=self.window, about=size), size))
            except Unusable as error:
                return str(error)

        waiting = iter(self.items)
        with ThreadPoolExecutor(THREADS) as threads:
            while batch := list(islice(waiting, 256)):
                yield from threads.map(frame, batch)


def _array(picture: Image.Image) -> NDArray[np.uint8]:
    """(H, W, C)."""
    pixels = np.asarray(picture)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
