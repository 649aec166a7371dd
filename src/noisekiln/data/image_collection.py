"""Images while they are loaded, from an array or from files, decoded one by one to a common size."""

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

from noisekiln.data.decode import Header, Unusable, decode, one_large, silent
from noisekiln.data.deep import Windows
from noisekiln.data.resize import resize_and_crop
from noisekiln.data.source import Item

DecodedImage = NDArray[np.uint8] | str  # (H, W, C), or the reason why the image cannot be used
THREADS = min(8, cpu_count() or 1)


class ImageCollection(Protocol):
    """N images, of one size or many."""

    def __len__(self) -> int:
        """Number of images."""

    @property
    def channels(self) -> int:
        """1 if all are grey, else 3."""

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Number of images of each (height, width)."""

    @property
    def names(self) -> tuple[str, ...] | None:
        """Names of their files, if they come from files."""

    def take(self, chosen: NDArray[np.int64]) -> "ImageCollection":
        """The images with these indices, in this order."""

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[DecodedImage]:
        """Every image in order, fitted to (height, width)."""


@dataclass(frozen=True)
class ArrayImages:
    """An array (N, H, W, C) of bytes, of which the images `chosen` (all if None) are used."""

    pixels: NDArray[np.uint8]
    chosen: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        """Number of images."""
        return len(self.pixels if self.chosen is None else self.chosen)

    @property
    def names(self) -> None:
        """None: the images of an array have no files."""

    @property
    def channels(self) -> int:
        """1 or 3."""
        return int(self.pixels.shape[3])

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """All are of one size."""
        return Counter({(self.pixels.shape[1], self.pixels.shape[2]): len(self)})

    def take(self, chosen: NDArray[np.int64]) -> "ArrayImages":
        """Copies nothing yet: the array may be memory-mapped."""
        return ArrayImages(self.pixels, chosen if self.chosen is None else self.chosen[chosen])

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[DecodedImage]:
        """Every image of an array is usable."""
        same = size == self.pixels.shape[1:3]
        for index in range(len(self.pixels)) if self.chosen is None else self.chosen:
            pixels = self.pixels[index]
            image = pixels.squeeze(2) if channels == 1 else pixels
            yield pixels if same else _to_array(resize_and_crop(Image.fromarray(image), size))


@dataclass(frozen=True)
class FileImages:
    """Image files with readable headers.

    Attributes:
        items: The files.
        headers: Header of each.
        windows: Values that become 0 and 255 in images of more than 8 bits.
    """

    items: tuple[Item, ...]
    headers: tuple[Header, ...]
    windows: Windows

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
    def names(self) -> tuple[str, ...]:
        """The files' names."""
        return tuple(item.name for item in self.items)

    def take(self, chosen: NDArray[np.int64]) -> "FileImages":
        """Opens no file yet."""
        numbers = chosen.tolist()
        return FileImages(tuple(self.items[i] for i in numbers), tuple(self.headers[i] for i in numbers), self.windows)

    def frames(self, size: tuple[int, int], channels: int) -> Iterator[DecodedImage]:
        """Decoded by a few threads, some hundred images ahead at most."""

        def frame(entry: tuple[Item, Header]) -> DecodedImage:
            item, header = entry
            try:
                with one_large(header.height * header.width):
                    image = decode(item, in_colour=channels == 3, window=self.windows.of(header.deep), about=size)
                    return _to_array(resize_and_crop(image, size))
            except Unusable as error:
                return str(error)

        waiting = zip(self.items, self.headers, strict=True)
        with ThreadPoolExecutor(THREADS) as threads:
            while batch := list(islice(waiting, 256)):
                with silent():  # not while the caller works
                    frames = list(threads.map(frame, batch))
                yield from frames


def _to_array(image: Image.Image) -> NDArray[np.uint8]:
    """(H, W, C)."""
    pixels = np.asarray(image)
    return pixels[..., np.newaxis] if pixels.ndim == 2 else pixels
