"""Sharded tensors, of which every process holds some rows: saving, loading, gathering."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

Named = Mapping[str, Tensor]


def local_shard(tensors: Named, *, is_main: bool) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors that this process saves: its rows of sharded ones; in the main process, also all others.

    Returns:
        The tensors, and the names of those that are sharded.
    """
    sharded = sorted(name for name, tensor in tensors.items() if isinstance(tensor, DTensor))
    parts = {name: to_local(tensor) for name, tensor in tensors.items() if is_main or name in sharded}
    return parts, sharded


def merge_shards(parts: Sequence[Named], sharded: Sequence[str]) -> dict[str, Tensor]:
    """Every tensor in full.

    Args:
        parts: Tensors that each process saved, by rank.
        sharded: Names of the sharded tensors.
    """
    return {
        name: torch.cat([part[name] for part in parts]) if name in sharded else tensor
        for name, tensor in parts[0].items()
    }


def match_layout(tensor: Tensor, other: Tensor) -> Tensor:
    """A copy of a full tensor with the type, device, strides and sharding of another."""
    return shard_like(tensor, other) if isinstance(other, DTensor) else torch.empty_like(other).copy_(tensor)


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """A full tensor, sharded like `other`; the tensor itself if `other` is not sharded."""
    if not isinstance(other, DTensor):
        return tensor
    # Every process has all of it, so that none must send.
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def gather(tensor: Tensor) -> Tensor:
    """A tensor in full. If it is sharded, all processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process holds: all of them, unless it is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    assert tensor.placements == (Shard(0),)
    rows: Tensor = tensor.to_local()
    return rows.detach()
