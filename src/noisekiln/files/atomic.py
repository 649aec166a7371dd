"""Atomic writing of files: a kill, a full disk or a power cut leaves the old file or the new one, never a part."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from safetensors import SafetensorError


@contextmanager
def atomic_write(file: Path) -> Iterator[Path]:
    """Path of a draft to write to; it replaces `file` when the block ends, and is removed if the block fails.

    A link at `file` is replaced, and never followed.

    The draft is synced to the disk before it is renamed, and the renaming before this returns.

    Raises:
        OSError: If it cannot be written, also where safetensors raises an error of its own.
    """
    # In a folder of its own, as safetensors adds a temporary file: the next draft removes what a killed process left.
    place = file.with_name(f".{file.name}.partial")
    remove_whatever(place)
    place.mkdir()
    draft = place / file.name
    try:
        yield draft
        os.chmod(draft, place.stat().st_mode & 0o666)  # as others are made here: safetensors hides its file from others
        sync(draft)
        os.replace(draft, file)
    except SafetensorError as error:
        raise OSError(f"{file}: {error}") from error
    except OSError as error:
        _add_name(error, file)
        raise
    finally:
        shutil.rmtree(place, ignore_errors=True)
    sync(file.parent)


@contextmanager
def unsynced_write(file: Path) -> Iterator[Path]:
    """As `atomic_write`, but not for power cuts: for images, which can be made again, and are many.

    Syncing takes 10 ms, longer than sampling a small image. The draft has another ending than the file.
    """
    draft = file.with_name(f".{file.name}.partial")
    remove_whatever(draft)
    try:
        yield draft
        os.replace(draft, file)
    except OSError as error:
        _add_name(error, file)
        raise
    finally:
        remove_whatever(draft)


def _add_name(error: OSError, file: Path) -> None:
    """Add the name of the file to an error that has none: on a full disk, `write` does not say it."""
    if error.errno is not None and error.filename is None:
        error.filename = str(file)


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Path of an empty draft of a folder; it takes the place of `folder` when the block ends.

    It is removed if the block fails. For files that are only whole together; each is written by `atomic_write`.
    """
    draft, aside = (folder.with_name(f".{folder.name}.{end}") for end in ("partial", "old"))
    remove_whatever(draft)
    draft.mkdir(parents=True)
    try:
        yield draft
        remove_whatever(aside)
        if folder.exists():
            folder.rename(aside)
        draft.rename(folder)
        remove_whatever(aside)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    sync(folder.parent)


def is_draft(place: Path) -> bool:
    """Whether a file or folder is what `atomic_write` or `atomic_folder` leaves if the process is killed."""
    return place.name.startswith(".") and place.name.endswith((".partial", ".old"))


def open_to_append(file: Path) -> TextIO:
    """A text file of a run, open for appending; a link, or a file with another name elsewhere, becomes a copy first.

    Raises:
        OSError: If it cannot be opened.
        ValueError: If it is no plain file.
    """
    if file.is_symlink() or (file.is_file() and file.stat().st_nlink > 1):
        with atomic_write(file) as draft:
            draft.write_bytes(file.read_bytes() if file.is_file() else b"")
    if file.exists() and not file.is_file():
        raise ValueError(f"{file} is no plain file, and a run writes there. Remove it.")
    return file.open("a", encoding="utf-8")


def sync(place: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if place.is_dir() and os.name == "nt":
        return  # Windows syncs no folders
    handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def remove_whatever(place: Path) -> None:
    """Remove a folder with its content, or whatever else has this name; a link is not followed."""
    if place.is_symlink() or place.is_file():
        place.unlink()
    shutil.rmtree(place, ignore_errors=True)
