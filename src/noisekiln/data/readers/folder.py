"""A folder of images, with sub-folders of any depth."""

import os
from pathlib import Path

from noisekiln.data.dataset import Skipped
from noisekiln.data.left_out import is_ignored
from noisekiln.data.names import printable_name
from noisekiln.data.source import Item, Source, file_item
from noisekiln.data.tree import source_from_tree

FORMATS = "a folder of images (sub-folders are classes; metadata.jsonl or .csv may caption them)"


def recognises(path: Path) -> int:
    """Any folder, unless it is another reader's own format."""
    return int(path.is_dir())


def read(path: Path) -> Source:
    """Lists the folder, following links but never in a circle; opens no file."""
    items: list[Item] = []
    skipped: list[Skipped] = []
    visited: set[str] = set()

    def unreadable(error: OSError) -> None:
        skipped.append(Skipped(printable_name(str(error.filename)), f"the folder cannot be listed: {error.strerror}"))

    for folder, below, files in os.walk(path, followlinks=True, onerror=unreadable):
        real = os.path.realpath(folder)
        if real in visited:
            below.clear()
            continue
        visited.add(real)
        below.sort()
        inside = Path(folder).relative_to(path).as_posix()
        if not below and not files and inside != "." and not is_ignored(inside):
            skipped.append(Skipped(printable_name(inside), "an empty folder"))
        for file in sorted(files):
            full = Path(folder, file)
            name = full.relative_to(path).as_posix()
            if _is_file(full):
                items.append(file_item(name, full))
            elif not is_ignored(name):
                skipped.append(
                    Skipped(printable_name(name), "a link to nowhere" if full.is_symlink() else "not a regular file")
                )
    return source_from_tree(printable_name(path.resolve().name), items, skipped)


def _is_file(path: Path) -> bool:
    """Whether it is a file; False also without permission to read its attributes."""
    try:
        return path.is_file()
    except OSError:
        return False
