"""Snapshots: copies of the averages, saved during training to combine averages of other lengths later."""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from noisekiln.distributed.sharded import gather
from noisekiln.ema.power import Ema
from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import atomic_write
from noisekiln.files.json_file import parse_json
from noisekiln.files.model_folder import digest
from noisekiln.files.plain_file import check_plain
from noisekiln.machine.transfer import finish_copies, start_copy

SUM = "sha256"  # name of a description's own checksum in it
NOT_WRITTEN = "it is not what was written, by its SHA-256"


class Snapshot(NamedTuple):
    """A file with copies of the averages.

    Attributes:
        file: The file: a tensor ``TRACK.NAME`` for each average of each trained parameter.
        images_seen: Images seen at the last update of the averages.
        lengths: Lengths of the tracks, in their order.
    """

    file: Path
    images_seen: int
    lengths: tuple[float, ...]


def make_write_task(folder: Path, ema: Ema) -> Callable[[], object]:
    """A function that writes the current averages. If they are sharded, all processes must call this.

    Args:
        folder: Folder of the snapshots.
        ema: The averages, which are copied now.
    """
    return partial(write, folder, half_precision_copies(ema), ema.images_seen, ema.lengths)


def half_precision_copies(ema: Ema) -> dict[str, Tensor]:
    """Copies of the averages in main memory, ``TRACK.NAME``. If they are sharded, all processes must call this.

    They are float16, whose rounding error is smaller than that of the reconstruction (see LOG.md); float32 if that
    overflows.
    """
    named = {f"{i}.{name}": tensor for i, track in enumerate(ema.tracks) for name, tensor in track.items()}
    halves, finite = {}, []
    for name, tensor in named.items():
        half = gather(tensor).to(torch.float16, memory_format=torch.contiguous_format)
        finite.append(half.isfinite().all())
        halves[name] = start_copy(half)
    finish_copies(finite)
    for name, fits in zip(named, torch.stack(finite).tolist() if finite else [], strict=True):
        if not fits:
            halves[name] = gather(named[name]).to("cpu", copy=True).contiguous()
    return halves


def write(folder: Path, tensors: Mapping[str, Tensor], images_seen: int, lengths: Sequence[float]) -> Path:
    """Write what `half_precision_copies` returned to ``IMAGES.safetensors``, completely or not at all.

    Returns:
        The file.

    Raises:
        SaveFailed: If it could not be written.
    """
    file = folder / f"{images_seen:012d}.safetensors"
    about = {"images_seen": images_seen, "lengths": list(lengths), "tensors": digest(tensors)}
    # One entry: with two, their order in the file would vary.
    metadata = {"snapshot": json.dumps({**about, SUM: _sum_of(about)})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file) as draft:
            save_file(dict(tensors), draft, metadata=metadata)
    except OSError as error:
        raise SaveFailed.of(f"{file} could not be written", error) from error
    return file


def list_snapshots(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, oldest first; only their headers are read.

    Raises:
        ValueError: If one is damaged.
    """
    return [_read_header(file) for file in _snapshot_files(folder)]


def read_tensors(snapshot: Snapshot) -> dict[str, Tensor]:
    """The tensors of a snapshot.

    Raises:
        ValueError: If they are not what was written, by their SHA-256; files of earlier versions hold none.
    """
    try:
        with safe_open(snapshot.file, framework="pt") as opened:
            about = _description(opened.metadata())
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
        if "tensors" in about and about["tensors"] != digest(tensors):
            raise ValueError(NOT_WRITTEN)
    except (OSError, KeyError, ValueError, SafetensorError) as error:
        raise _damaged(snapshot.file, error) from error
    return tensors


def delete_snapshots_after(folder: Path, images_seen: int) -> None:
    """Remove later snapshots, and incomplete ones of a killed run, before training continues from a checkpoint."""
    for file in _snapshot_files(folder):
        if int(file.stem) > images_seen:
            file.unlink()
    for draft in folder.glob(".*.partial"):
        shutil.rmtree(draft, ignore_errors=True)


def _snapshot_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.safetensors") if file.stem.isdecimal())


def _read_header(file: Path) -> Snapshot:
    try:
        check_plain(file)
        with safe_open(file, framework="pt") as opened:
            about = _description(opened.metadata())
        return Snapshot(file, int(about["images_seen"]), tuple(map(float, about["lengths"])))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise _damaged(file, error) from error


def _description(metadata: Mapping[str, str] | None) -> dict[str, Any]:
    about = parse_json((metadata or {})["snapshot"])
    if not isinstance(about, dict):
        raise ValueError("its description is no table")
    if about.pop(SUM, _sum_of(about)) != _sum_of(about):
        raise ValueError(NOT_WRITTEN)
    return about


def _sum_of(about: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _damaged(file: Path, error: Exception) -> ValueError:
    return ValueError(
        f"{file} is not a snapshot of noisekiln, or damaged ({error}). Remove it: the others work without it."
    )
