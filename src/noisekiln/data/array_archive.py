"""The arrays in an .npz archive, each read for itself: what cannot be read is known by name, with the reason."""

import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.data.archives import is_folder
from noisekiln.data.encoding import decode_array
from noisekiln.errors import DataError, reason_of


@dataclass(frozen=True)
class ArrayArchive:
    """Content of an archive.

    Attributes:
        arrays: The arrays by name.
        unread: Why a member is not among them, by its name.
        notes: Notes on how texts were read.
    """

    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    unread: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def is_array_archive(path: Path) -> bool:
    """Whether it is an .npz file, by its suffix, or by its content if that is an archive's or a single array's."""
    try:
        with path.open("rb") as file:
            start = file.read(6)
    except OSError:
        start = b""
    return start[:4] == b"PK\3\4" or (path.suffix.lower() == ".npz" and start != b"\x93NUMPY")


def read_archive(path: Path) -> ArrayArchive:
    """Reads all arrays; those of Python objects, which can run code, are not read.

    Raises:
        DataError: If it is no archive, was cut off, or does not fit into memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename: info.file_size for info in archive.infolist() if not is_folder(info)}
            _check_memory(path, sum(members.values()))
            found = ArrayArchive()
            for member in members:
                _read_member(archive, member, found)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile, NotImplementedError) as error:  # the last for a version
        if isinstance(error, DataError):
            raise
        raise DataError(
            str(path), "it is not an .npz archive, or it was cut off", "Save it again with numpy.savez"
        ) from error
    return found


def _read_member(archive: zipfile.ZipFile, member: str, found: ArrayArchive) -> None:
    """Adds a member to the arrays, or the reason why it cannot be read."""
    if not member.endswith(".npy"):
        found.unread[member] = "not an array"
        return
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as file:
            array = np.lib.format.read_array(file, allow_pickle=False)
        found.arrays[name], guessed = decode_array(name, array) if array.dtype.kind == "S" else (array, "")
        found.notes.extend([f"The texts of {name!r} are not UTF-8; they were read as {guessed}."] if guessed else [])
    except DataError as error:
        found.unread[name] = str(error.args[1])
    except Exception as error:  # on damaged bytes, zip and numpy raise errors of many classes
        objects = "Object arrays" in str(error)
        reason = "Python objects, which can run code when opened" if objects else f"damaged: {reason_of(error)}"
        found.unread[name] = reason


def _check_memory(path: Path, needed: int) -> None:
    """Raise DataError if the unpacked arrays are larger than the memory of this machine, where that is known."""
    if not {"SC_PAGE_SIZE", "SC_PHYS_PAGES"} <= set(getattr(os, "sysconf_names", ())):  # Windows has none
        return
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise DataError(
            str(path),
            f"its arrays take {needed / 2**30:.1f} GiB, and this machine has {memory / 2**30:.1f} GiB of memory",
            "Save the images as one .npy file, which is read in parts",
        )
