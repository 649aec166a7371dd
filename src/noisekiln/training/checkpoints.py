"""Checkpoints of a run: folders of tensors and other state, written completely or not at all.

The name of a folder is the number of images seen, 12 digits. It holds `part-00000-of-00001.safetensors`, the tensors of
one process (one such file per process), `state.json`, everything else, and `SHA256SUMS` of all these files, which
`sha256sum -c SHA256SUMS` checks.
"""

import errno
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import sync
from noisekiln.files.json_file import read_json
from noisekiln.training.checksums import SUMS, checksum_line, verify_sums, write_synced
from noisekiln.training.due import EveryImages
from noisekiln.training.shards import wait_for_commit, wait_for_shard, write_shard

STATE = "state.json"
NAME = re.compile(r"(\d{12,})(\.old)?")  # .old exists for a moment, while one checkpoint replaces another


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
        line = write_shard(draft, shard, num_shards, tensors)
        if shard > 0:
            wait_for_commit(place, draft, line, timeout)
            return
        lines = [line] + [wait_for_shard(draft, other, num_shards, timeout) for other in range(1, num_shards)]
        write_synced(draft / STATE, json.dumps(dict(state), indent=2))
        write_synced(draft / SUMS, "".join([checksum_line(draft / STATE), *lines]))
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
            parts = sorted(place.glob("part-*.safetensors"))
            verify_sums(place, [place / STATE, *parts])
            return Checkpoint([load_file(file) for file in parts], _read_state(place / STATE), skipped)
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


def _commit(draft: Path, place: Path) -> None:
    for done in draft.glob("*.sum"):
        done.unlink()
    sync(draft)
    aside = place.with_name(f"{place.name}.old")
    if place.exists():  # at every moment at least one of the two exists
        if aside.exists():
            _remove(aside)
        place.rename(aside)
    draft.rename(place)
    sync(place.parent)
    sync(place.parent.parent)


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
    state = read_json(file)
    if not isinstance(state, dict):
        raise ValueError(f"{file.name}: not the state of a training")
    return state


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
