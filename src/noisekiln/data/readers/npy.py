"""One array in a .npy file, memory-mapped."""

from pathlib import Path

import numpy as np

from noisekiln.data.array_archive import is_array_archive
from noisekiln.data.source import Part, Source
from noisekiln.errors import DataError, reason_of

FORMATS = "an .npy file of one array (N, H, W) or (N, H, W, C)"


def recognises(path: Path) -> int:
    """By suffix; an .npz archive that is called .npy, or the other way round, by its content."""
    return 2 * (path.is_file() and path.suffix.lower() in (".npy", ".npz") and not is_array_archive(path))


def read(path: Path) -> Source:
    """Opens it without reading it; object arrays, which can run code, are refused."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # numpy raises errors of any class on a broken header
        why = f"numpy cannot read it safely ({reason_of(error)})"
        raise DataError(str(path), why, "Save a plain number array with numpy.save") from error
    return Source(path.stem, Part(array))
