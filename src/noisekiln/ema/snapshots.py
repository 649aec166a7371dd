"""Snapshots: copies of the averages kept during training, from which any other length can be made afterwards."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from math import floor
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from noisekiln.distributed.sharded import gather
from noisekiln.ema.power import Ema
from noisekiln.errors import SaveFailed
from noisekiln.files.atomic import replacing


class Snapshot(NamedTuple):
    """One file of copies.

    Attributes:
        file: With a tensor ``TRACK.NAME`` for each average of each trained parameter.
        images_seen: Where the averages stood.
        lengths: Of the tracks, in their order.
    """

    file: Path
    images_seen: int
    lengths: tuple[float, ...]


class Snapshots:
    """Keeps a snapshot whenever another equal share of the budget is gone.

    Args:
        folder: Where.
        count: Shares; 0 keeps none.
        share: How much of the budget is gone at the beginning.
    """

    def __init__(self, folder: Path, count: int, share: float) -> None:
        self.folder, self.count = folder, count
        self._done = self._shares(share)

    def due(self, share: float) -> bool:
        """Whether another share is gone; to be asked after every step that was taken, and at the end."""
        before, self._done = self._done, self._shares(share)
        return self._done > before

    def work(self, ema: Ema) -> Callable[[], object]:
        """What writes the averages as they are now; of sharded ones, every process has to ask for it."""
        return partial(write, self.folder, small(ema), ema.images_seen, ema.lengths)

    def _shares(self, share: float) -> int:
        return floor(share * self.count)


def small(ema: Ema) -> dict[str, Tensor]:
    """Copies of the averages in half precision, ``TRACK.NAME``; of sharded ones, every process has to ask."""
    named = [(f"{i}.{name}", tensor) for i, track in enumerate(ema.tracks) for name, tensor in track.items()]
    return {name: _halved(gather(tensor)) for name, tensor in named}


def write(folder: Path, tensors: Mapping[str, Tensor], images_seen: int, lengths: Sequence[float]) -> Path:
    """Write what `small` made into ``IMAGES.safetensors``, whole or not at all; returns the file.

    Raises:
        SaveFailed: If it could not be written.
    """
    file = folder / f"{images_seen:012d}.safetensors"
    # One entry: the file's bytes do not depend on an order.
    told = {"snapshot": json.dumps({"images_seen": images_seen, "lengths": list(lengths)})}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(file) as draft:
            save_file(dict(tensors), draft, metadata=told)
    except OSError as error:
        raise SaveFailed(
            f"{file} could not be written: {error.strerror or error}. What was saved before is intact. "
            "Free some room, or keep no --snapshots, then give the same command again to go on."
        ) from error
    return file


def kept(folder: Path) -> list[Snapshot]:
    """The snapshots in a folder, oldest first; only their headers are read.

    Raises:
        ValueError: If one is damaged.
    """
    return [_read(file) for file in _files(folder)]


def forget_after(folder: Path, images_seen: int) -> None:
    """Remove the snapshots of steps that will be taken again, and what was cut off while it was written."""
    for file in _files(folder):
        if int(file.stem) > images_seen:
            file.unlink()
    for draft in folder.glob(".*.partial"):
        shutil.rmtree(draft, ignore_errors=True)


def _files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.safetensors") if file.stem.isdecimal())


def _read(file: Path) -> Snapshot:
    try:
        with safe_open(file, framework="pt") as opened:
            told = json.loads((opened.metadata() or {})["snapshot"])
        return Snapshot(file, int(told["images_seen"]), tuple(map(float, told["lengths"])))
    except (OSError, KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ValueError(
            f"{file} is no snapshot of noisekiln's, or damaged ({error}). Remove it: the others do without it."
        ) from error


def _halved(tensor: Tensor) -> Tensor:
    """In half precision, which costs less than reconstruction does (see LOG.md); as it is, if it would overflow."""
    half = tensor.to("cpu", torch.float16)
    return (half if bool(half.isfinite().all()) else tensor.to("cpu", copy=True)).contiguous()
