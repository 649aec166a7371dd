"""Processes that train one model together; all that they say to one another."""

import atexit
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.fsdp import fully_shard
from torch.distributed.rendezvous import rendezvous

from noisekiln.distributed.ddp import RecoverableDDP
from noisekiln.distributed.shares import split_evenly
from noisekiln.errors import LostRank

ROLL_CALL = 2.0  # seconds to answer once something is wrong


class Ranks:
    """The processes that train together, as one of them sees it; alone, unless `join` found others.

    Attributes:
        rank: Number of this process.
        count: How many there are.
    """

    rank = 0
    world_size = 1
    _store: Store | None = None

    @classmethod
    def join(cls, device: str, wait: float = 300.0) -> "Ranks":
        """Meet the others that torchrun started, if it did (it says so in the environment).

        Args:
            device: "cuda" speaks NCCL about weights; numbers always go by gloo, whose waiting ends with an error.
            wait: Seconds after which a process that does not answer is lost.
        """
        ranks = cls()
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
            return ranks
        ranks.rank, ranks.world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not dist.is_initialized():
            with ranks.detecting_lost_ranks():
                cls._store = _meeting(device, timedelta(seconds=wait))
            # Python that ends in the midst of connections may end by a crash.
            atexit.register(dist.destroy_process_group)
        return ranks

    @property
    def is_main(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sum of every process's numbers; the same on all of them, to the bit."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.detecting_lost_ranks():
            dist.all_reduce(total)
        return [float(value) for value in total]

    def barrier(self) -> None:
        """Wait until all are here."""
        self.all_reduce_sum([0.0])

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """All rows of a tensor of `count`, of which each process has those of its share (see `rows.split_evenly`)."""
        if self.world_size == 1:
            return rows
        most = -(-count // self.world_size)
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows.cpu()
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        with self.detecting_lost_ranks():
            dist.all_gather(parts, padded)
        return torch.cat(
            [part[: len(mine)] for part, mine in zip(parts, split_evenly(count, self.world_size), strict=True)]
        )

    def wrap(self, module: nn.Module, blocks: Sequence[nn.Module] | None = None) -> nn.Module:
        """The module to call in training, whose gradients are averaged over processes.

        Args:
            module: The same on all of them.
            blocks: Parts of it whose weights are gathered one after the other: every process then keeps its share of
                all weights only (FSDP2). None keeps the whole on each (DDP).
        """
        if self.world_size == 1:
            return module
        if blocks is None:
            with self.detecting_lost_ranks():
                return RecoverableDDP(module)
        for parameter in module.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP cuts rows of plain memory
        mesh = init_device_mesh(next(module.parameters()).device.type, (self.world_size,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module  # it is another now, and still itself

    @contextmanager
    def detecting_lost_ranks(self) -> Iterator[None]:
        """Turns the many errors of a lost connection into one that says which process is missing.

        Raises:
            LostRank: If so.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _of_connection(error):
                raise
            if dist.is_initialized() and dist.get_backend() != "gloo":
                atexit.unregister(dist.destroy_process_group)  # which would wait for what is lost
            missing = self._missing()
            told = f"process {', '.join(map(str, missing))} of {self.world_size}" if missing else "another process"
            raise LostRank(
                f"Lost {told}: it died or does not answer. Training cannot go on without it; what was saved last is "
                "intact. Look at what that process said, then give the same command again."
            ) from error

    def _missing(self) -> list[int]:
        """Who does not answer a roll call."""
        if self._store is None:
            return []
        try:
            self._store.set(f"here/{self.rank}", "")
            time.sleep(ROLL_CALL)
            return [rank for rank in range(self.world_size) if not self._store.check([f"here/{rank}"])]
        except RuntimeError:  # the store is gone too, with the machine that kept it
            return []


def _meeting(device: str, timeout: timedelta) -> Store:
    """Begin to speak with the others; returns a place for notes that all can read."""
    store, rank, count = next(rendezvous("env://", timeout=timeout))
    # After an elastic restart the store may still hold the addresses of those who died.
    store = PrefixStore(f"noisekiln/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)
    return PrefixStore("roll", store)


def _of_connection(error: RuntimeError) -> bool:
    """Whether torch says so: errors of our own kinds may have any file's name in them."""
    words = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "peer", "broken pipe")
    named = type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    return named or isinstance(error, dist.DistError)
