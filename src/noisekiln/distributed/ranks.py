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

from noisekiln.distributed.ddp import Averaged
from noisekiln.distributed.shares import share_out
from noisekiln.errors import LostPeer

ROLL_CALL = 2.0  # seconds to answer once something is wrong


class Peers:
    """The processes that train together, as one of them sees it; alone, unless `join` found others.

    Attributes:
        rank: Number of this process.
        count: How many there are.
    """

    rank = 0
    count = 1
    _store: Store | None = None

    @classmethod
    def join(cls, device: str, wait: float = 300.0) -> "Peers":
        """Meet the others that torchrun started, if it did (it says so in the environment).

        Args:
            device: "cuda" speaks NCCL about weights; numbers always go by gloo, whose waiting ends with an error.
            wait: Seconds after which a process that does not answer is lost.
        """
        peers = cls()
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or "RANK" not in os.environ:
            return peers
        peers.rank, peers.count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        if device == "cuda":
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        if not dist.is_initialized():
            with peers.listening():
                cls._store = _meeting(device, timedelta(seconds=wait))
            # Python that ends in the midst of connections may end by a crash.
            atexit.register(dist.destroy_process_group)
        return peers

    @property
    def first(self) -> bool:
        """Whether this is the process that speaks and writes."""
        return self.rank == 0

    def summed(self, values: Sequence[float]) -> list[float]:
        """The sum of every process's numbers; the same on all of them, to the bit."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.listening():
            dist.all_reduce(total)
        return [float(value) for value in total]

    def meet(self) -> None:
        """Wait until all are here."""
        self.summed([0.0])

    def gathered(self, rows: Tensor, count: int) -> Tensor:
        """All rows of a tensor of `count`, of which each process has those of its share (see `rows.share_out`)."""
        if self.count == 1:
            return rows
        most = -(-count // self.count)
        padded = torch.zeros(most, *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows.cpu()
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        with self.listening():
            dist.all_gather(parts, padded)
        return torch.cat([part[: len(mine)] for part, mine in zip(parts, share_out(count, self.count), strict=True)])

    def spread(self, module: nn.Module, blocks: Sequence[nn.Module] | None = None) -> nn.Module:
        """The module to call in training, whose gradients are averaged over processes.

        Args:
            module: The same on all of them.
            blocks: Parts of it whose weights are gathered one after the other: every process then keeps its share of
                all weights only (FSDP2). None keeps the whole on each (DDP).
        """
        if self.count == 1:
            return module
        if blocks is None:
            with self.listening():
                return Averaged(module)
        for parameter in module.parameters():
            parameter.data = parameter.data.contiguous()  # FSDP cuts rows of plain memory
        mesh = init_device_mesh(next(module.parameters()).device.type, (self.count,))
        for block in blocks:
            fully_shard(block, mesh=mesh)
        fully_shard(module, mesh=mesh)
        return module  # it is another now, and still itself

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Turns the many errors of a lost connection into one that says which process is missing.

        Raises:
            LostPeer: If so.
        """
        try:
            yield
        except RuntimeError as error:
            if self.count == 1 or not _of_connection(error):
                raise
            if dist.is_initialized() and dist.get_backend() != "gloo":
                atexit.unregister(dist.destroy_process_group)  # which would wait for what is lost
            missing = self._missing()
            told = f"process {', '.join(map(str, missing))} of {self.count}" if missing else "another process"
            raise LostPeer(
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
            return [rank for rank in range(self.count) if not self._store.check([f"here/{rank}"])]
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
