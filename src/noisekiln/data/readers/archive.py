"""A zip or tar archive of images; paths in it mean what they mean in a folder."""

import re
from pathlib import Path

from noisekiln.data.archives import archive_contents, is_archive
from noisekiln.data.cifar_batches import cifar_source
from noisekiln.data.source import Source
from noisekiln.data.tree import source_from_tree

FORMATS = "a .zip or .tar(.gz, .bz2, .xz) of images, without unpacking it"
SUFFIXES = re.compile(r"(\.tar)?\.\w{1,4}$", re.IGNORECASE)


def recognises(path: Path) -> int:
    """By content, unless it is another reader's own format: an .npz is a zip, too."""
    return int(path.is_file() and is_archive(path))


def read(path: Path) -> Source:
    """Lists the archive; files are read when they are decoded."""
    name = SUFFIXES.sub("", path.name)
    items, skipped = archive_contents(path)
    return cifar_source(name, items) or source_from_tree(name, items, skipped)
