"""Checkpoints of a run: folders of tensors and other state, written completely or not at all.

The name of a folder is the number of images seen, 12 digits. It holds `part-00000-of-00001.safetensors`, the tensors of
one process (one such file per process), `state.json`, everything else, and `SHA256SUMS` of all these files, which
`sha256sum -c SHA256SUMS` checks.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from noisekiln.errors import SaveFailed
from noisekiln.files.plain_file import check_plain, read_plain_text
from noisekiln.training.due import EveryImages

SUMS, STATE = "SHA256SUMS", "state.json"
NAME = re.compile(r"(\d{12,})(\.old)?")  # .old exists for a moment, while one checkpoint replaces another
POLL_SECONDS = 0.02  # between checks of what other processes have written


class Checkpoint(NamedTuple):
    """A checkpoint that was read.

    Attributes:
        shards: Tensors by name, of each process that saved.
        state: Everything else, from JSON.
        skipped: Newer checkpoints that are damaged, and the reason, one line per checkpoint.
    """

    shards: list[dict[str, Tensor]]
    state: dict[str, Any]
    skipped: list[str]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Tensors of all shards."""
        return {name: tensor for shard in self.shards for name, tensor in shard.items()}


def save(
    folder: Path,
    images_seen: int,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
    keep_every: int | None = None,
    shard: int = 0,
    num_shards: int = 1,
    timeout: float = 600.0,
) -> None:
    """Write a checkpoint under `folder`, named by the images seen; then remove those that are no longer kept.

    It is written to a temporary folder, synced with its checksums, then renamed: a run that dies at any moment leaves
    the previous one intact. Several processes write one shard each and communicate by files only; process 0 completes
    the checkpoint.

    Args:
        folder: Folder of all checkpoints, the same for all processes.
        images_seen: Images seen in all.
        tensors: Tensors of this process, by name.
        state: Everything else, for JSON; that of process 0 is written.
        keep: Number of the newest checkpoints to keep, >= 1.
        keep_every: Interval in images: the first checkpoint at or after each multiple of it is also kept.
        shard: Index of this process, from 0.
        num_shards: Number of processes.
        timeout: Seconds to wait for the other processes.

    Raises:
        SaveFailed: If it could not be written, or another process did not write its shard in time.
    """
    place = folder / f"{images_seen:012d}"
    draft = folder / f".{place.name}.partial"
    with _discarding_draft(draft, place):
        if num_shards == 1:
            shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True, exist_ok=True)
        _check_space(draft, tensors)
        line = _write_shard(draft, _shard_name(shard, num_shards), tensors)
        if shard > 0:
            _wait_for_commit(place, draft, line, timeout)
            return
        lines = [line] + [_wait_for_shard(draft, other, num_shards, timeout) for other in range(1, num_shards)]
        _write_text(draft / STATE, json.dumps(dict(state), indent=2))
        _write_text(draft / SUMS, "".join([_line(draft / STATE), *lines]))
        _commit(draft, place)
    _prune(folder, images_seen, keep, keep_every)


def load_newest(folder: Path) -> Checkpoint | None:
    """The newest undamaged checkpoint under `folder`, or None if there is no checkpoint.

    Raises:
        ValueError: If all of them are damaged.
    """
    skipped: list[str] = []
    for place in reversed(_list_checkpoints(folder)):
        try:
            _verify(place)
            state = _read_state(place / STATE)
            return Checkpoint([load_file(file) for file in sorted(place.glob("part-*.safetensors"))], state, skipped)
        except (OSError, ValueError, SafetensorError) as error:
            why = f"{Path(error.filename).name} is missing" if isinstance(error, FileNotFoundError) else error
            skipped.append(f"checkpoint {place.name} is damaged: {why}")
    if not skipped:
        return None
    raise ValueError(
        f"No checkpoint in {folder} can be read ({'; '.join(skipped)}). All are damaged. "
        "Restore one from a backup, or give another `out` for a new run."
    )


def list_images_seen(folder: Path) -> list[int]:
    """Images seen by the checkpoints under `folder`, damaged ones included, in order."""
    return sorted({_images_seen_of(place) for place in _list_checkpoints(folder)})


def delete_checkpoints_after(folder: Path, images_seen: int) -> None:
    """Remove later checkpoints, which are damaged, and what a killed run left, before training continues from one."""
    for place in _list_checkpoints(folder):
        if _images_seen_of(place) > images_seen:
            _remove(place)
    for left in folder.glob(".[0-9]*"):
        shutil.rmtree(left, ignore_errors=True)


@contextmanager
def _discarding_draft(draft: Path, place: Path) -> Iterator[None]:
    """Remove the draft of a checkpoint if writing it fails, for any reason."""
    try:
        yield
    except BaseException as error:
        shutil.rmtree(draft, ignore_errors=True)
        if not isinstance(error, (OSError, SafetensorError)):
            raise
        raise _save_failed(error, place) from error


def _check_space(draft: Path, tensors: Mapping[str, Tensor]) -> None:
    """Raise OSError at once if the tensors are larger than the free space: a full disk harms other programs."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    free = shutil.disk_usage(draft).free
    if free < size:
        raise OSError(errno.ENOSPC, f"{size / 1e6:,.1f} MB are needed, and {free / 1e6:,.1f} MB free")


def _write_shard(draft: Path, name: str, tensors: Mapping[str, Tensor]) -> str:
    """Write a shard, then a file with its checksum line: then process 0 knows that the shard is complete."""
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, draft / name)
    _sync(draft / name)
    line = _line(draft / name)
    sums = draft / f"{name}.sum"
    _write_text(sums.with_suffix(".writing"), line)
    os.replace(sums.with_suffix(".writing"), sums)
    return line


def _shard_name(shard: int, num_shards: int) -> str:
    return f"part-{shard:05d}-of-{num_shards:05d}.safetensors"


def _wait_for_shard(draft: Path, shard: int, num_shards: int, timeout: float) -> str:
    name = _shard_name(shard, num_shards)
    sums = draft / f"{name}.sum"
    until = time.monotonic() + timeout
    while not sums.exists():
        if not draft.exists():
            raise OSError(f"process {shard} could not write its part, {name}")
        if time.monotonic() > until:
            raise OSError(f"process {shard} has not written its part, {name}, in {timeout:g} s. It hangs or has died")
        time.sleep(POLL_SECONDS)
    return sums.read_text(encoding="utf-8")


def _wait_for_commit(place: Path, draft: Path, line: str, timeout: float) -> None:
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


def _commit(draft: Path, place: Path) -> None:
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
    """Keep the newest `keep` checkpoints up to `images_seen` and the permanent ones; remove all others."""
    past = {
        _images_seen_of(place): place for place in _list_checkpoints(folder) if _images_seen_of(place) <= images_seen
    }
    permanent = EveryImages(keep_every)
    kept = [*list(past)[-keep:], *filter(permanent.due, past)]
    for place in _list_checkpoints(folder):
        if _images_seen_of(place) not in kept or place != past[_images_seen_of(place)]:
            _remove(place)


def _remove(place: Path) -> None:
    """Rename a checkpoint, then remove it, so that no half of one can be read. Failing to do so is no error."""
    out = place.with_name(f".{place.name}.removed")
    shutil.rmtree(out, ignore_errors=True)
    with suppress(OSError):
        place.rename(out)
    shutil.rmtree(out, ignore_errors=True)


def _read_state(file: Path) -> dict[str, Any]:
    """The state in a checkpoint; raises ValueError if it is none, as another person may have written it."""
    try:
        state = json.loads(read_plain_text(file))
    except RecursionError:
        state = None
    if not isinstance(state, dict):
        raise ValueError(f"{file.name}: not the state of a training")
    return state


def _verify(place: Path) -> None:
    """Raise OSError or ValueError unless all files are as they were written."""
    written = read_plain_text(place / SUMS)
    found = [_line(file) for file in (place / STATE, *sorted(place.glob("part-*.safetensors")))]
    if "".join(found) != written:
        odd = {line.split("  ", 1)[-1] for line in set(found) ^ set(written.splitlines(keepends=True))}
        files = ", ".join(sorted(repr(name.strip()) for name in odd)) or SUMS
        raise ValueError(f"{files}: not what was written, by its {SUMS}")


def _line(file: Path) -> str:
    """The checksum line of a file."""
    check_plain(file)
    with file.open("rb") as handle:
        return f"{hashlib.file_digest(handle, 'sha256').hexdigest()}  {file.name}\n"


def _write_text(file: Path, text: str) -> None:
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
    before = [count for count in list_images_seen(place.parent) if count != int(place.name)]
    what = f"The checkpoint after {int(place.name):,} images could not be written to {place.parent}"
    if not before:
        return SaveFailed.of(what, error, "No earlier checkpoint exists", "start again")
    return SaveFailed.of(what, error, f"The one after {before[-1]:,} is intact")


def _list_checkpoints(folder: Path) -> list[Path]:
    """All checkpoints by images seen; a `.old` one comes before the one that replaces it."""
    found = [place for place in folder.glob("[0-9]*") if NAME.fullmatch(place.name) and place.is_dir()]
    return sorted(found, key=lambda place: (_images_seen_of(place), place.suffix == ""))


def _images_seen_of(place: Path) -> int:
    return int(place.stem)
