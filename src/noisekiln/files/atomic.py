"""Atomic writing of files: a kill, a full disk or a power cut leaves the old file or the new one, never a part."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Path of a draft to write to; it replaces `file` when the block ends, and is removed if the block fails.

    The draft is synced to the disk before it is renamed, and the renaming before this returns.

    Raises:
        OSError: If it cannot be written, also where safetensors raises an error of its own.
    """
    # In a folder of its own, as safetensors adds a temporary file: the next draft removes what a killed process left.
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
    if os.name != "nt":  # Windows cannot sync folders
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
