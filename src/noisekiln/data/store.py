"""Storage of decoded pixels: in memory up to 2 GiB, above that in a memory-mapped file."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from noisekiln.errors import DataError

LARGE = 2 << 30  # bytes: larger data sets are memory-mapped, to keep memory free for training


class Store:
    """Space for an array of bytes: write into `pixels`, then call `finish`."""

    def __init__(self, shape: tuple[int, ...], file: Path | None) -> None:
        """Allocates memory, or above 2 GiB a file: `file`, or one in a temporary folder, removed when Python ends.

        Raises:
            DataError: If the disk has too little free space (checked now: a full disk would kill the process later).
        """
        self.pixels: NDArray[np.uint8]
        self._file = file
        self._draft: Path | None = None
        needed = int(np.prod(shape, dtype=np.int64))
        if needed <= LARGE:
            self.pixels = np.empty(shape, np.uint8)
            return
        if file is None:
            file = self._file = _temporary() / "pixels.npy"
        file.parent.mkdir(parents=True, exist_ok=True)
        _check_room(needed, file.parent)
        handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f"{file.stem}-", suffix=".npy")
        os.close(handle)
        self._draft = Path(draft)
        self.pixels = np.lib.format.open_memmap(draft, "w+", np.uint8, shape)

    def finish(self, count: int) -> NDArray[np.uint8]:
        """The first `count` rows; a file gets its final name and is opened for reading only."""
        if self._draft is None or self._file is None:
            return self.pixels if count == len(self.pixels) else self.pixels[:count].copy()
        del self.pixels  # closes the mapping: not every system renames a file in use
        os.replace(self._draft, self._file)
        pixels: NDArray[np.uint8] = np.load(self._file, mmap_mode="r", allow_pickle=False)
        return pixels[:count]


def _check_room(needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DataError(
            f"{folder}",
            f"the decoded images take {needed / 2**30:.1f} GiB and only {free / 2**30:.1f} GiB are free there",
            "Choose a smaller `size`, or free some space",
        )


def _temporary() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="noisekiln-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
