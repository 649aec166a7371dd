"""DistributedDataParallel whose processes may each fail to take a step."""

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
    """A module whose gradients are averaged over processes (DDP), of which each may fail to take one.

    Args:
        module: The same on all of them.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__(module, gradient_as_bucket_view=True)
        self.broadcast_buffers = False  # they are constants
        self._called = False  # in this step
        self._taken: list[int] = []  # buckets of gradients that this step has averaged, by number
        self.register_comm_hook(self._taken, _average)  # which must not know this object: they would never be freed

    def begin(self) -> None:
        """To be called before a step."""
        self._taken.clear()
        self._called = False

    def forward(self, *rows: Any) -> Any:
        """What the module returns."""
        self._called = True
        return super().forward(*rows)  # type: ignore[no-untyped-call]

    def join_with_zeros(self) -> None:
        """Add zeros to the averages that a backward pass would have taken part in, so that nobody waits for them.

        As torch's own `join` does for a process that has run out of data. What the others then have is to be forgotten.
        """
        if not self._called:  # the first call of the second step agrees on the buckets
            self.reducer._rebuild_buckets()
        for bucket in self.reducer._get_zeros_like_grad_buckets()[len(self._taken) :]:
            dist.all_reduce(bucket.buffer())


def _average(taken: list[int], bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:  # type: ignore[name-defined]
    assert dist.group.WORLD is not None
    averaged = allreduce_hook(dist.group.WORLD, bucket)
    taken.append(bucket.index())
    return averaged


@contextmanager
def gathering(module: nn.Module, now: bool) -> Iterator[None]:
    """Whether a backward pass averages gradients over processes, or only adds to this one's."""
    if isinstance(module, FSDPModule):
        module.set_requires_gradient_sync(now)
    quiet = isinstance(module, DistributedDataParallel) and not now
    with module.no_sync() if quiet else nullcontext():  # type: ignore[operator]
        yield
