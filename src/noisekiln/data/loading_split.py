"""The train or held-out part while it is loaded: images with their labels, captions and columns, row by row."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.columns import Columns, select_columns
from noisekiln.data.dataset import Skipped, Split
from noisekiln.data.image_collection import ImageCollection
from noisekiln.data.store import Store


@dataclass(frozen=True)
class LoadingSplit:
    """N images with N labels, captions and cells of each column, where there are any."""

    images: ImageCollection
    labels: NDArray[np.int64] | None
    captions: tuple[str, ...] | None
    columns: Columns

    def __len__(self) -> int:
        """Number of images."""
        return len(self.images)

    def take(self, chosen: NDArray[np.int64]) -> "LoadingSplit":
        """The rows with these indices, in this order."""
        return LoadingSplit(self.images.take(chosen), *self._words(chosen), select_columns(self.columns, chosen))

    def fill(
        self, size: tuple[int, int], channels: int, file: Path | None, tick: Callable[[], None]
    ) -> tuple[Split, list[Skipped]]:
        """The decoded images, in memory or (above 2 GiB) in `file`, and a list of those that are damaged."""
        store = Store((len(self), *size, channels), file)
        names = self.images.names
        kept: list[int] = []
        skipped: list[Skipped] = []
        for number, frame in enumerate(self.images.frames(size, channels)):
            if isinstance(frame, str):
                skipped.append(Skipped(names[number] if names else str(number), frame))
            else:
                store.pixels[len(kept)] = frame
                kept.append(number)
            tick()
        files = tuple(names[number] for number in kept) if names else None
        rows = np.array(kept, np.int64)
        columns = select_columns(self.columns, rows)
        return Split(store.finish(len(kept)), *self._words(rows), files, columns=columns), skipped

    def _words(self, chosen: NDArray[np.int64]) -> tuple[NDArray[np.int64] | None, tuple[str, ...] | None]:
        """Labels and captions of some rows."""
        labels = None if self.labels is None else self.labels[chosen]
        return labels, None if self.captions is None else tuple(self.captions[i] for i in chosen.tolist())
