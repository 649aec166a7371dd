"""Exchange of sharded tensors, so that every process computes with some of them in full."""

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from noisekiln.distributed.sharded import to_local
from noisekiln.distributed.shares import split_by_cost

OfWhole = Callable[[Sequence[Tensor]], list[Tensor]]
"""Function of whole tensors that returns a tensor of the same shape for each."""


def compute_by_owners(compute: OfWhole, tensors: Sequence[Tensor], costs: Sequence[float]) -> list[Tensor]:
    """The results of `compute`: in full, or the rows of this process if the tensors are sharded.

    Each sharded tensor has one owner, the process that receives all of its rows, computes, and sends every process its
    rows of the result: two all-to-all exchanges, however many tensors there are.

    Args:
        compute: Function of whole tensors.
        tensors: At least one tensor: all sharded by rows over the same processes, which call this together, or none.
        costs: Cost of computing with each tensor; all processes get about the same sum.
    """
    first = tensors[0]
    if not isinstance(first, DTensor):
        return compute(tensors)
    mesh, shards = first.device_mesh, [to_local(tensor) for tensor in tensors]
    ranks, owned, nothing = range(mesh.size()), split_by_cost(costs, mesh.size()), shards[0].new_empty(0)
    own = [tensors[index].shape for index in owned[mesh.get_local_rank()]]
    shapes = [[(_rows(shape[0], rank, len(ranks)), *shape[1:]) for shape in own] for rank in ranks]

    def exchange(lists: Sequence[Sequence[Tensor]], expected: Sequence[Sequence[Sequence[int]]]) -> list[list[Tensor]]:
        """Sends each process a list of tensors, and returns the list of each, whose shapes are known."""
        sent = [torch.cat([nothing, *(part.flatten() for part in parts)]) for parts in lists]
        lengths = [sum(map(prod, each)) for each in expected]
        received = nothing.new_empty(sum(lengths))
        dist.all_to_all_single(received, torch.cat(sent), lengths, [len(part) for part in sent], mesh.get_group())
        return [_unpack(packed, each) for packed, each in zip(received.split(lengths), expected, strict=True)]

    pieces = exchange([[shards[index] for index in indices] for indices in owned], shapes)
    whole = [torch.cat(rows) for rows in zip(*pieces, strict=True)]
    results = compute(whole) if whole else []
    rows_of = [result.split([each[number][0] for each in shapes]) for number, result in enumerate(results)]
    back = exchange(
        [[rows[rank] for rows in rows_of] for rank in ranks],
        [[shards[index].shape for index in indices] for indices in owned],
    )
    order = [index for indices in owned for index in indices]
    found = dict(zip(order, [rows for parts in back for rows in parts], strict=True))
    return [found[index] for index in range(len(tensors))]


def _rows(count: int, rank: int, ranks: int) -> int:
    """Number of a tensor's rows that a process holds."""
    most = -(-count // ranks)
    return min(most, max(0, count - rank * most))


def _unpack(packed: Tensor, shapes: Sequence[Sequence[int]]) -> list[Tensor]:
    """Tensors of these shapes, from one that holds them in a row."""
    parts = packed.split([prod(shape) for shape in shapes])
    return [part.view(tuple(shape)) for part, shape in zip(parts, shapes, strict=True)]
