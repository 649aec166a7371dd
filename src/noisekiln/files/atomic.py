"""Files that are replaced whole or not at all, whatever happens meanwhile: a kill, a full disk, a power cut."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def replacing(file: Path) -> Iterator[Path]:
    """A draft to write to; it takes the place of `file` when the block ends, and goes away if it fails.

    The draft is on the disk before it has the name, and the name before the block is left.

    Raises:
        OSError: If it cannot be written, also where safetensors tells of it by an error of its own.
    """
    # A folder for it, as safetensors writes to a file of its own beside: what a kill leaves goes with the next draft.
    place = file.with_name(f".{file.name}.partial")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    draft = place / file.name
    try:
        yield draft
        with draft.open("r+b") as handle:
            os.fsync(handle.fileno())
        os.replace(draft, file)
    except SafetensorError as error:
        raise OSError(f"{file}: {error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    if os.name != "nt":  # Windows syncs no folders
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
