"""Reading of files that may come from other people: only plain files, of a bounded size."""

import os
import stat
from pathlib import Path

MAX_BYTES = 64 << 20


def check_plain(file: Path) -> None:
    """Raise OSError if a file does not exist, and ValueError if it is a pipe, a device or a folder."""
    if not stat.S_ISREG(file.stat().st_mode):
        raise ValueError(f"{file.name} is no plain file")


def read_plain_text(file: Path, max_bytes: int = MAX_BYTES) -> str:
    """The text of a file, in UTF-8.

    Args:
        file: The file. A pipe or a device is refused: reading one might never end.
        max_bytes: Size above which it is refused.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is no plain file, too large, or not UTF-8.
    """
    handle = os.open(file, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # a pipe without a writer would block
    with open(handle, "rb") as opened:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError(f"{file} is no plain file")
        if about.st_size > max_bytes:
            raise ValueError(f"it has {about.st_size >> 20:,} MiB, more than any that noisekiln writes")
        return opened.read(max_bytes + 1).decode("utf-8")
