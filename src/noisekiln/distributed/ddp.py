"""DistributedDataParallel in which any process may fail to compute a step."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel


class RecoverableDDP(DistributedDataParallel):
    """A module whose gradients are averaged over processes (DDP), any of which may fail to compute its own.

    Args:
        module: The module, the same in all processes.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, gradient_as_bucket_view=True)
        self.broadcast_buffers = False  # they are constants
        self._called = False  # whether forward was called in this step
        self._reduced: list[int] = []  # indices of the gradient buckets that this step has averaged
        self.register_comm_hook(
            self._reduced, _all_reduce
        )  # which must not refer to this object: it would never be freed

    def begin_step(self) -> None:
        """To be called before a step."""
        self._reduced.clear()
        self._called = False

    def forward(self, *rows: Any) -> Any:
        """The output of the module."""
        self._called = True
        return super().forward(*rows)  # type: ignore[no-untyped-call]  # torch has no types here

    def join_with_zeros(self) -> None:
        """Add zeros to the remaining averages of this step, so that no process waits for them.

        Torch's own `join` does the same for a process that has run out of data. The averages must then be discarded.
        """
        if not self._called:  # the first call of the second step agrees on the buckets
            self.reducer._rebuild_buckets()
        for bucket in self.reducer._get_zeros_like_grad_buckets()[len(self._reduced) :]:
            dist.all_reduce(bucket.buffer())


# torch's type hints do not export `GradBucket`.
def _all_reduce(reduced: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    assert dist.group.WORLD is not None
    future = allreduce_hook(dist.group.WORLD, bucket)
    reduced.append(bucket.index())
    return future


@contextmanager
def gradient_sync(module: nn.Module, enabled: bool) -> Iterator[None]:
    """Enable or disable averaging of gradients over processes in a backward pass."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(enabled)
    with module.no_sync() if isinstance(module, DistributedDataParallel) and not enabled else nullcontext():
        yield


def check_all_have_gradients(module: nn.Module) -> None:
    """Raise ValueError for trained parameters without a gradient, for which DDP would hang."""
    trained = ((name, weight) for name, weight in module.named_parameters() if weight.requires_grad)
    unused = [name for name, weight in trained if weight.grad is None]
    if unused:
        raise ValueError(
            f"{', '.join(unused[:3])} had no part in the loss, and several processes can only average gradients that "
            "all of them have. Remove from the network what it does not use, or train with one process."
        )
