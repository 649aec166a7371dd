"""Search for the reader of a source of data. The folder `readers` is the registry: each file in it reads one format."""

import difflib
import importlib
import pkgutil
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from noisekiln.data import readers
from noisekiln.data.downloads import not_downloaded
from noisekiln.data.formats import HEAD, foreign_content, is_readable
from noisekiln.data.in_memory import from_memory
from noisekiln.data.source import Source
from noisekiln.errors import DataError
from noisekiln.paths import expand_home

BUNDLED = Path(__file__).parent / "bundled"
PREFIX = "bundled:"  # names a bundled set even if there is a folder of the same name


class Reader(Protocol):
    """The interface of a module in `readers`."""

    FORMATS: str
    """The formats that it reads, in a few words, for messages."""

    def recognises(self, path: Path) -> int:
        """0: not its format; 1: a general format that it can read; 2: its own format. Never raises."""

    def read(self, path: Path) -> Source:
        """Raises DataError."""


def read_source(source: Any, labels: Any = None, captions: Any = None) -> Source:
    """The source of any kind of data, in memory with labels and captions of its own. Raises DataError."""
    if not isinstance(source, str | Path):
        return from_memory(source, labels, captions)
    if labels is not None or captions is not None:
        raise DataError(
            "`labels`" if labels is not None else "`captions`",
            f"they belong to images in memory, and {str(source)!r} is a path",
            "Give sub-folders or a metadata.csv; or read the images, such as with np.load, and give these",
        )
    if not str(source).strip():
        raise DataError("''", "an empty name names no data", "Give a folder, a file, or a bundled set")
    path = expand_home(source)
    if str(source).startswith(PREFIX) or (not _exists(path) and str(source) in bundled_names()):
        return _bundled(str(source).removeprefix(PREFIX))
    if not _exists(path):
        raise not_downloaded(str(source)) or _missing_source(source, path)
    found = _read_with_best(path)
    if str(source) in bundled_names():
        note = f"This is the folder {path}; the bundled set of that name is {PREFIX}{path}."
        found = replace(found, notes=(note, *found.notes))
    return found


def bundled_names() -> tuple[str, ...]:
    """The data sets that come with the package."""
    return tuple(sorted(file.stem for file in BUNDLED.glob("*.npz")))


def discovered() -> tuple[Reader, ...]:
    """Every module in `readers`, by name."""
    names = sorted(module.name for module in pkgutil.iter_modules(readers.__path__))
    return tuple(importlib.import_module(f"{readers.__name__}.{name}") for name in names)


def _read_with_best(path: Path) -> Source:
    """The source from the best-matching reader."""
    if not (path.is_file() or path.is_dir()):  # opening a pipe would wait forever
        raise DataError(str(path), "this is neither a file nor a folder", "Give a folder of images")
    best = max(discovered(), key=lambda reader: reader.recognises(path))
    if not best.recognises(path):
        raise _unknown_file(path)
    return best.read(path)


def _unknown_file(path: Path) -> DataError:
    """The error for a file that no reader recognises, by its first bytes."""
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return DataError(str(path), f"it cannot be opened: {error.strerror}", "Check its permissions")
    if not head:
        return DataError(str(path), "the file is empty (0 bytes)", "Download or save it again")
    if is_readable(head):
        return DataError(str(path), "this is a single image", "Put it into a folder with others, and give the folder")
    why = foreign_content(head) or "this kind of file is not a known data set"
    return DataError(str(path), why, f"Give one of: {'; '.join(reader.FORMATS for reader in discovered())}")


def _exists(path: Path) -> bool:
    """Whether there is such a file or folder; a name that no system allows is none."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def _bundled(name: str) -> Source:
    if name not in bundled_names():
        raise DataError(f"{PREFIX}{name}", "no such set comes with noisekiln", f"Choose from: {_list()}")
    found = _read_with_best(BUNDLED / f"{name}.npz")
    return replace(found, name=name, notes=("This set comes with noisekiln.", *found.notes))


def _missing_source(source: str | Path, path: Path) -> DataError:
    """The error for a missing path, with similar names in the same folder and among the bundled sets."""
    parent = path.parent
    try:
        beside = [file.name for file in parent.iterdir()]
    except OSError:
        beside = []
    near = difflib.get_close_matches(path.name, beside, n=3)
    choices = [str(parent / name) for name in near] + difflib.get_close_matches(str(source), bundled_names(), n=1)
    why = "there is no such file or folder" if _exists(parent) else f"there is no folder {parent}"
    hint = f"Did you mean {' or '.join(choices)}?" if choices else "Check the path"
    return DataError(str(source), why, f"{hint.rstrip('?')}{'?' if choices else ''} (bundled sets: {_list()})")


def _list() -> str:
    return ", ".join(bundled_names())
