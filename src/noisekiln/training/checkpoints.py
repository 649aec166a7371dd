"""Checkpoints: folders of tensors and numbers, complete or not there at all.

Each is named by the images seen, 12 digits. It holds `part-00000-of-00001.safetensors`, the tensors of one process (or
one such file for each of several), `numbers.json`, everything else, and `SHA256SUMS` of all these files, which
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
NAME = re.compile(r"(\d{12,})(\.old)?")  # .old exists for a moment, while one checkpoint replaces another
POLL_SECONDS = 0.02  # between checks of what other processes have written


class Checkpoint(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        parts: Tensors by name, of each process that saved.
        numbers: Everything else, from JSON.
        skipped: Newer checkpoints that are damaged, and why, one line each.
    """

    parts: list[dict[str, Tensor]]
    numbers: dict[str, Any]
    skipped: list[str]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors of all parts."""
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
    timeout: float = 600.0,
) -> None:
    """Write a checkpoint under `folder`, named by the images seen; then remove those that are not kept any longer.

    It is written beside its place, synced with its checksums, then renamed: a run that dies at any moment leaves the
    previous one intact. Several processes write a part each, and communicate by files only: process 0 completes it.

    Args:
        folder: Folder of all checkpoints, the same for all processes.
        images_seen: Images seen in all.
        tensors: Tensors of this process, by name.
        numbers: Everything else, for JSON; those of process 0 are written.
        keep: Number of the newest checkpoints to keep, >= 1.
        keep_every: Besides, the first checkpoint at or after each multiple of so many images is kept.
        part: Number of this process, from 0.
        parts: Number of processes.
        timeout: Seconds to wait for the other processes.

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
            _await_end(place, draft, line, timeout)
            return
        lines = [line] + [_await_part(draft, other, parts, timeout) for other in range(1, parts)]
        _write(draft / NUMBERS, json.dumps(dict(numbers), indent=2))
        _write(draft / SUMS, "".join([_line(draft / NUMBERS), *lines]))
        _into_place(draft, place)
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, (OSError, SafetensorError)):
            raise
        raise _save_failed(error, place) from error
    _prune(folder, images_seen, keep, keep_every)


def newest(folder: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint under `folder`, or None if there is no checkpoint.

    Raises:
        ValueError: If all of them are damaged.
    """
    skipped: list[str] = []
    for place in reversed(_all(folder)):
        try:
            _verify(place)
            numbers = json.loads((place / NUMBERS).read_text(encoding="utf-8"))
            return Checkpoint([load_file(file) for file in sorted(place.glob("part-*.safetensors"))], numbers, skipped)
        except (OSError, ValueError, SafetensorError) as error:
            why = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else error
            skipped.append(f"checkpoint {place.name} is damaged: {why}")
    if not skipped:
        return None
    raise ValueError(
        f"No checkpoint in {folder} can be read ({'; '.join(skipped)}). All are damaged. "
        "Restore them from a copy, or give another `out` for a new run."
    )


def counts(folder: Path) -> list[int]:
    """Images seen of the checkpoints under `folder`, damaged ones too, in order."""
    return sorted({_count(place) for place in _all(folder)})


def forget_after(folder: Path, images_seen: int) -> None:
    """Before training continues from a checkpoint: remove later ones, which are damaged, and what a killed run left."""
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
    """Write a part, and then a file with its checksum line, by which process 0 knows that it is complete."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, draft / name)
    _sync(draft / name)
    line = _line(draft / name)
    sums = draft / f"{name}.sum"
    _write(sums.with_suffix(".writing"), line)
    os.replace(sums.with_suffix(".writing"), sums)
    return line


def _await_part(draft: Path, part: int, parts: int, timeout: float) -> str:
    name = f"part-{part:05d}-of-{parts:05d}.safetensors"
    sums = draft / f"{name}.sum"
    until = time.monotonic() + timeout
    while not sums.exists():
        if not draft.exists():
            raise OSError(f"process {part} could not write its part, {name}")
        if time.monotonic() > until:
            raise OSError(f"process {part} has not written its part, {name}, in {timeout:g} s. It hangs or has died")
        time.sleep(POLL_SECONDS)
    return sums.read_text(encoding="utf-8")


def _await_end(place: Path, draft: Path, line: str, timeout: float) -> None:
    """Wait until process 0 has completed the checkpoint."""
    until = time.monotonic() + timeout
    while not _holds(place, line):
        if not draft.exists() and not _holds(place, line):
            raise OSError("process 0 or another one could not write its part")
        if time.monotonic() > until:
            raise OSError(f"process 0 has not completed it in {timeout:g} s. It hangs or has died")
        time.sleep(POLL_SECONDS)


def _holds(place: Path, line: str) -> bool:
    """Whether the checkpoint is complete and contains the file of this checksum line."""
    try:
        return line in (place / SUMS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return False


def _into_place(draft: Path, place: Path) -> None:
    for done in draft.glob("*.sum"):
        done.unlink()
    _sync(draft)
    aside = place.with_name(f"{place.name}.old")
    if place.exists():  # at every moment at least one of the two exists
        if aside.exists():
            _remove(aside)
        place.rename(aside)
    draft.rename(place)
    _sync(place.parent)
    _sync(place.parent.parent)


def _prune(folder: Path, images_seen: int, keep: int, keep_every: int | None) -> None:
    """Remove all but the newest `keep`, those kept for good, and later ones, from which training did not continue."""
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
    """Rename a checkpoint, then remove it: half of one must not look like one. Failing to do so is no error."""
    out = place.with_name(f".{place.name}.removed")
    shutil.rmtree(out, ignore_errors=True)
    with suppress(OSError):
        place.rename(out)
    shutil.rmtree(out, ignore_errors=True)


def _verify(place: Path) -> None:
    """Raise OSError or ValueError unless all files are as they were written."""
    written = (place / SUMS).read_bytes().decode()
    found = [_line(file) for file in sorted((place / NUMBERS, *place.glob("part-*.safetensors")))]
    if "".join(found) != written:
        odd = {line.split("  ", 1)[-1] for line in set(found) ^ set(written.splitlines(keepends=True))}
        files = ", ".join(sorted(repr(name.strip()) for name in odd)) or SUMS
        raise ValueError(f"{files}: not what was written, by its {SUMS}")


def _line(file: Path) -> str:
    """The checksum line of a file."""
    with file.open("rb") as handle:
        return f"{hashlib.file_digest(handle, 'sha256').hexdigest()}  {file.name}\n"


def _write(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8", newline="\n")
    _sync(file)


def _sync(place: Path) -> None:
    """Wait until a file, or the names in a folder, are on disk."""
    if place.is_dir() and os.name == "nt":
        return  # Windows syncs no folders
    handle = os.open(place, os.O_RDONLY if place.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _save_failed(error: Exception, place: Path) -> SaveFailed:
    before = [count for count in counts(place.parent) if count != int(place.name)]
    intact = f"The one after {before[-1]:,} is intact" if before else "There is none before it"
    return SaveFailed.of(
        f"The checkpoint after {int(place.name):,} images could not be written to {place.parent}", error, intact
    )


def _all(folder: Path) -> list[Path]:
    """All checkpoints by images seen; of two with one count, the one that is in place comes last."""
    found = [place for place in folder.glob("[0-9]*") if NAME.fullmatch(place.name) and place.is_dir()]
    return sorted(found, key=lambda place: (_count(place), place.suffix == ""))


def _count(place: Path) -> int:
    return int(place.stem)
