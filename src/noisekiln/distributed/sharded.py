"""Tensors of which every process has a part, and how they go to disk and come back."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Shard, distribute_tensor

Named = Mapping[str, Tensor]


def local_shard(tensors: Named, *, first: bool) -> tuple[dict[str, Tensor], list[str]]:
    """What this process has to write: its rows of what is sharded, and, if it is the first one, all that is not.

    Returns:
        The tensors, and the names of those that are sharded.
    """
    sharded = sorted(name for name, tensor in tensors.items() if isinstance(tensor, DTensor))
    parts = {name: to_local(tensor) for name, tensor in tensors.items() if first or name in sharded}
    return parts, sharded


def merge_shards(parts: Sequence[Named], sharded: Sequence[str]) -> dict[str, Tensor]:
    """Every tensor in full, from the parts that processes wrote, in order of their ranks."""
    return {
        name: torch.cat([part[name] for part in parts]) if name in sharded else tensor
        for name, tensor in parts[0].items()
    }


def match_layout(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor laid out as another is: its type, device, strides, and share of the rows."""
    return shard_like(tensor, other) if isinstance(other, DTensor) else torch.empty_like(other).copy_(tensor)


def shard_like(tensor: Tensor, other: Tensor) -> Tensor:
    """What a process has of a whole tensor if it is shared out as another is: all of it, unless that is sharded."""
    if not isinstance(other, DTensor):
        return tensor
    # Every process has the whole of it: nobody has to send.
    return distribute_tensor(tensor.to(other.device), other.device_mesh, other.placements, src_data_rank=None)


def gather(tensor: Tensor) -> Tensor:
    """The whole of a tensor; every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def to_local(tensor: Tensor) -> Tensor:
    """The rows of a tensor that this process has; all of them, unless it is sharded."""
    if not isinstance(tensor, DTensor):
        return tensor.detach()
    assert tensor.placements == (Shard(0),)
    rows: Tensor = tensor.to_local()
    return rows.detach()
