"""Checkpoints: folders of tensors and numbers, complete or not there at all.

Each is named by the images seen, 12 digits. It holds `part-00000-of-00001.safetensors`, the tensors of one process (or
one such file for each of several), `numbers.json`, everything else, and `SHA256SUMS` of all of these, which
`sha256sum -c SHA256SUMS` checks.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from noisekiln.errors import SaveFailed

SUMS, NUMBERS = "SHA256SUMS", "numbers.json"
PLACE = re.compile(r"(\d{12,})(\.old)?")  # .old is there for a moment, while one takes the place of another
LOOK_EVERY = 0.02  # seconds between looks at what other processes have written


class Checkpoint(NamedTuple):
    """What was saved.

    Attributes:
        parts: Tensors by name, of each process that saved.
        numbers: Everything else, as JSON has it.
        skipped: Newer checkpoints that are damaged, and why, one line each.
    """

    parts: list[dict[str, Tensor]]
    numbers: dict[str, Any]
    skipped: list[str]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Those of all parts."""
        return {name: tensor for part in self.parts for name, tensor in part.items()}


def save(
    folder: Path,
    images_seen: int,
    tensors: Mapping[str, Tensor],
    numbers: Mapping[str, Any],
    *,
    keep: int = 2,
    keep_every: int | None = None,
    part: int = 0,
    parts: int = 1,
    patience: float = 600.0,
) -> None:
    """Write a checkpoint under `folder`, named by the images seen; then remove what is no longer to be kept.

    It is written beside its place, synced with its checksums, then renamed: a run that dies at any moment leaves the
    previous one intact. Several processes write a part each and meet in the folder alone: process 0 completes it.

    Args:
        folder: Of all checkpoints, seen by all processes.
        images_seen: In all.
        tensors: This process's, by name.
        numbers: What else there is, for JSON; of process 0.
        keep: So many of the newest are kept, >= 1.
        keep_every: Besides, the first one after each multiple of so many images.
        part: This process's number, from 0.
        parts: How many processes there are.
        patience: Seconds to wait for the other processes.

    Raises:
        SaveFailed: If it could not be written, or another process did not write its part in time.
    """
    place = folder / f"{images_seen:012d}"
    draft = folder / f".{place.name}.partial"
    try:
        if parts == 1:
            shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, exist_ok=True)
        _find_room(draft, tensors)
        line = _write_part(draft, f"part-{part:05d}-of-{parts:05d}.safetensors", tensors)
        if part > 0:
            _await_end(place, draft, line, patience)
            return
        lines = [line] + [_await_part(draft, other, parts, patience) for other in range(1, parts)]
        _write(draft / NUMBERS, json.dumps(dict(numbers), indent=2))
        _write(draft / SUMS, "".join([_line(draft / NUMBERS), *lines]))
        _into_place(draft, place)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, (OSError, SafetensorError)):
            raise
        raise SaveFailed(_told(error, place)) from error
    _prune(folder, images_seen, keep, keep_every)


def newest(folder: Path) -> Checkpoint | None:
    """The newest checkpoint under `folder` that is as it was written, or None if there is none.

    Raises:
        ValueError: If there are some, and all are damaged.
    """
    skipped: list[str] = []
    for place in reversed(_all(folder)):
        try:
            _verify(place)
            numbers = json.loads((place / NUMBERS).read_text(encoding="utf-8"))
            return Checkpoint([load_file(file) for file in sorted(place.glob("part-*.safetensors"))], numbers, skipped)
        except (OSError, ValueError, SafetensorError) as error:
            told = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else error
            skipped.append(f"checkpoint {place.name} is damaged: {told}")
    if not skipped:
        return None
    raise ValueError(
        f"No checkpoint in {folder} can be read ({'; '.join(skipped)}). They are damaged. "
        "Restore them from a copy, or give another --out for a new run."
    )


def counts(folder: Path) -> list[int]:
    """Images seen of the checkpoints under `folder`, damaged ones too, in order."""
    return sorted({_count(place) for place in _all(folder)})


def forget_after(folder: Path, images_seen: int) -> None:
    """Before training goes on from a checkpoint: remove later ones, which are damaged, and what a killed run left."""
    for place in _all(folder):
        if _count(place) > images_seen:
            _remove(place)
    for left in folder.glob(".[0-9]*"):
        shutil.rmtree(left, ignore_errors=True)


def _find_room(draft: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise OSError at once if the tensors are larger than what is free: a disk filled to the brim harms others."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    free = shutil.disk_usage(draft).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB free")


def _write_part(draft: Path, name: str, tensors: Mapping[str, Tensor]) -> str:
    """Write it, and a file with its line in the checksums, which tells process 0 that it is done."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, draft / name)
    _sync(draft / name)
    line = _line(draft / name)
    sums = draft / f"{name}.sum"
    _write(sums.with_suffix(".writing"), line)
    os.replace(sums.with_suffix(".writing"), sums)
    return line


def _await_part(draft: Path, part: int, parts: int, patience: float) -> str:
    name = f"part-{part:05d}-of-{parts:05d}.safetensors"
    sums = draft / f"{name}.sum"
    until = time.monotonic() + patience
    while not sums.exists():
        if not draft.exists():
            raise OSError(f"process {part} could not write its part, {name}")
        if time.monotonic() > until:
            raise OSError(f"process {part} has not written its part, {name}, in {patience:g} s. It hangs or has died")
        time.sleep(LOOK_EVERY)
    return sums.read_text(encoding="utf-8")


def _await_end(place: Path, draft: Path, line: str, patience: float) -> None:
    """Wait for process 0 to complete the checkpoint, so that whoever has saved knows that it is there."""
    until = time.monotonic() + patience
    while not _holds(place, line):
        if not draft.exists() and not _holds(place, line):
            raise OSError("process 0 or another one could not write its part")
        if time.monotonic() > until:
            raise OSError(f"process 0 has not completed it in {patience:g} s. It hangs or has died")
        time.sleep(LOOK_EVERY)


def _holds(place: Path, line: str) -> bool:
    """Whether the checkpoint is complete, with the file of this line in it."""
    try:
        return line in (place / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _into_place(draft: Path, place: Path) -> None:
    for done in draft.glob("*.sum"):
        done.unlink()
    _sync(draft)
    aside = place.with_name(f"{place.name}.old")
    if place.exists():  # at no moment is there less than one of the two
        if aside.exists():
            _remove(aside)
        place.rename(aside)
    draft.rename(place)
    _sync(place.parent)
    _sync(place.parent.parent)


def _prune(folder: Path, images_seen: int, keep: int, keep_every: int | None) -> None:
    """Remove all but the newest `keep` and the keepers; also later ones, of a future that was given up."""
    past = {_count(place): place for place in _all(folder) if _count(place) <= images_seen}
    kept = list(past)[-keep:]
    if keep_every is not None:
        multiple = 0
        for count in past:
            if count // keep_every > multiple:
                multiple = count // keep_every
                kept.append(count)
    for place in _all(folder):
        if _count(place) not in kept or place != past[_count(place)]:
            _remove(place)


def _remove(place: Path) -> None:
    """First by its name: half of a checkpoint must not look like one. One that cannot be removed hinders nobody."""
    out = place.with_name(f".{place.name}.removed")
    shutil.rmtree(out, ignore_errors=True)
    with suppress(OSError):
        place.rename(out)
    shutil.rmtree(out, ignore_errors=True)


def _verify(place: Path) -> None:
    """Raise OSError or ValueError unless all files are what was written."""
    written = (place / SUMS).read_bytes().decode()
    there = [_line(file) for file in sorted((place / NUMBERS, *place.glob("part-*.safetensors")))]
    if "".join(there) != written:
        odd = {line.split("  ", 1)[-1] for line in set(there) ^ set(written.splitlines(keepends=True))}
        files = ", ".join(sorted(repr(name.strip()) for name in odd)) or SUMS
        raise ValueError(f"{files}: not what was written, by its {SUMS}")


def _line(file: Path) -> str:
    """Its line in the checksums."""
    with file.open("rb") as handle:
        return f"{hashlib.file_digest(handle, 'sha256').hexdigest()}  {file.name}\n"


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")
    _sync(file)


def _sync(place: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    if place.is_dir() and os.name == "nt":
        return  # Windows syncs no folders
    handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _told(error: Exception, place: Path) -> str:
    before = [count for count in counts(place.parent) if count != int(place.name)]
    kept = f"The one after {before[-1]:,} is intact" if before else "There is none before it"
    why = error.strerror if isinstance(error, OSError) and error.strerror else error
    return (
        f"The checkpoint after {int(place.name):,} images could not be written to {place.parent}: {why}. {kept}. "
        "Free some room or look after the disk, then give the same command again to go on."
    )


def _all(folder: Path) -> list[Path]:
    """By the images seen; of two of one count, the one in place last."""
    found = [place for place in folder.glob("[0-9]*") if PLACE.fullmatch(place.name) and place.is_dir()]
    return sorted(found, key=lambda place: (_count(place), place.suffix == ""))


def _count(place: Path) -> int:
    return int(place.stem)
