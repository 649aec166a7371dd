"""Shards of a checkpoint: each process writes its own one, and they communicate by files alone."""

import os
import time
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from noisekiln.files.atomic import sync
from noisekiln.training.checksums import SUMS, checksum_line, write_synced

POLL_SECONDS = 0.02  # between checks of what other processes have written


def write_shard(draft: Path, shard: int, num_shards: int, tensors: Mapping[str, Tensor]) -> str:
    """Write a shard, then a file with its checksum line: then process 0 knows that the shard is complete.

    Args:
        draft: Folder of the checkpoint while it is written.
        shard: Index of this process.
        num_shards: Number of processes.
        tensors: Tensors of this process, by name.

    Returns:
        The checksum line.
    """
    name = _shard_name(shard, num_shards)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, draft / name)
    sync(draft / name)
    line = checksum_line(draft / name)
    sums = draft / f"{name}.sum"
    write_synced(sums.with_suffix(".writing"), line)
    os.replace(sums.with_suffix(".writing"), sums)
    return line


def wait_for_shard(draft: Path, shard: int, num_shards: int, timeout: float) -> str:
    """Wait until another process has written its shard, and return its checksum line."""
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


def wait_for_commit(place: Path, draft: Path, line: str, timeout: float) -> None:
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


def _shard_name(shard: int, num_shards: int) -> str:
    return f"part-{shard:05d}-of-{num_shards:05d}.safetensors"
