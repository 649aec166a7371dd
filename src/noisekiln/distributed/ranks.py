"""Processes that train together, and all communication between them."""

import atexit
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore, Store, _get_default_store
from torch.distributed.rendezvous import rendezvous

from noisekiln.distributed import torchrun
from noisekiln.distributed.shares import split_balanced
from noisekiln.errors import LostRank

ROLL_CALL = 2.0  # seconds in which every live process answers, after a connection was lost


class Ranks:
    """The processes that train together, from the view of one of them; `join` finds those that torchrun started.

    Args:
        rank: Number of this process.
        world_size: Number of processes.
    """

    def __init__(self, rank: int = 0, world_size: int = 1) -> None:
        self.rank, self.world_size = rank, world_size

    @classmethod
    def join(cls, device: str, timeout: float = 300.0) -> "Ranks":
        """Connect to the other processes that torchrun started, if any (environment variables describe them).

        Args:
            device: Device; on "cuda", tensors use NCCL, and numbers use gloo, because its time-outs raise errors.
            timeout: Seconds after which a process that does not answer is treated as lost.
        """
        if torchrun.world_size() == 1:
            return cls()
        ranks = cls(torchrun.rank(), torchrun.world_size())
        if device == "cuda":
            torch.cuda.set_device(torchrun.local_rank())
        if not dist.is_initialized():
            with ranks.detecting_lost_ranks():
                _connect(device, timedelta(seconds=timeout))
            # Python that exits while connections are open may crash.
            atexit.register(dist.destroy_process_group)
        return ranks

    @property
    def is_main(self) -> bool:
        """Whether this is the process that prints and writes."""
        return self.rank == 0

    def all_reduce_sum(self, values: Sequence[float]) -> list[float]:
        """The sums of the numbers of all processes; identical in all of them, bit for bit."""
        if self.world_size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with self.detecting_lost_ranks():
            dist.all_reduce(total)
        return [float(value) for value in total]

    def barrier(self) -> None:
        """Wait until all processes have called this."""
        self.all_reduce_sum([0.0])

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """All rows of a tensor, in main memory if there are several processes.

        Args:
            rows: Rows of this process: its part of ``split_balanced(count, world_size)``.
            count: Number of rows of all processes together.
        """
        if self.world_size == 1:
            return rows
        longest = -(-count // self.world_size)
        padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype)
        padded[: len(rows)] = rows.cpu()
        parts = [torch.empty_like(padded) for _ in range(self.world_size)]
        with self.detecting_lost_ranks():
            dist.all_gather(parts, padded)
        return torch.cat(
            [part[: len(own)] for part, own in zip(parts, split_balanced(count, self.world_size), strict=True)]
        )

    @contextmanager
    def detecting_lost_ranks(self) -> Iterator[None]:
        """Converts the different errors of a lost connection to one that names the missing process.

        Raises:
            LostRank: If a connection is lost.
        """
        try:
            yield
        except RuntimeError as error:
            if self.world_size == 1 or not _is_lost_connection(error):
                raise
            if dist.is_initialized() and dist.get_backend() != "gloo":
                atexit.unregister(dist.destroy_process_group)  # which would wait for the lost process
            missing = self._missing()
            lost = f"process {', '.join(map(str, missing))} of {self.world_size}" if missing else "another process"
            raise LostRank(
                f"Lost {lost}: it died or does not answer. Training cannot continue without it; what was saved last is "
                "intact. Check the output of that process, then run the same call or command again."
            ) from error

    def _missing(self) -> list[int]:
        """Ranks that do not answer within `ROLL_CALL` seconds."""
        if not dist.is_initialized():
            return []
        try:
            store = PrefixStore("roll", _get_default_store())
            store.set(f"here/{self.rank}", "")
            time.sleep(ROLL_CALL)
            return [rank for rank in range(self.world_size) if not store.check([f"here/{rank}"])]
        except RuntimeError:  # the store is gone too, with the machine that kept it
            return []


def _connect(device: str, timeout: timedelta) -> None:
    """Set up torch's process group."""
    store: Store
    store, rank, count = next(rendezvous("env://", timeout=timeout))
    # After an elastic restart the store may still hold the addresses of processes that died.
    store = PrefixStore(f"noisekiln/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=timeout)


def _is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error of torch means a lost connection; errors of our own classes may contain any file name."""
    words = ("gloo", "nccl", "connection", "timed out", "timeout", "socket", "peer", "broken pipe")
    named = type(error) is RuntimeError and any(word in str(error).lower() for word in words)
    return named or isinstance(error, dist.DistError)
