"""How much memory there is, and what to do when it runs out."""

import errno
import gc
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from noisekiln.errors import BatchTooLarge

Done = TypeVar("Done")

WORDS = (
    "out of memory",
    "can't allocate",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",
    "could not execute a primitive",
)
CGROUP = Path("/sys/fs/cgroup")  # limits of a container


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is full; only "cuda" has an error of its own for it, others have words."""
    kinds = (torch.OutOfMemoryError, MemoryError, BatchTooLarge)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    told = str(error).lower() if isinstance(error, RuntimeError) else ""
    return isinstance(error, kinds) or any(words in told for words in WORDS)


def raises_on_oom(device: str) -> bool:
    """Whether it says so itself when its memory is full, so that it is best tried, and works beside the processor."""
    return device != "cpu"


def release_cached() -> None:
    """Give back what is kept for later."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def retry_with_halves(work: Callable[[int], Done], count: int) -> Done:
    """What is done with so many at once; with half of them if memory runs out, and so on."""
    while True:
        try:
            return work(count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or count == 1:
                raise
        count = -(-count // 2)
        release_cached()


def available_bytes(device: str) -> int | None:
    """Bytes that a process may still take of the main memory; None on other devices, and where nobody counts."""
    meminfo = Path("/proc/meminfo")
    if device != "cpu" or not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
    room = 1024 * int(lines["MemAvailable"].split()[0])
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
        counted = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines())
        # Files that were read stay there until their place is needed.
        room = min(room, limit - used + int(counted["inactive_file"]) + int(counted["active_file"]))
    except (OSError, ValueError, KeyError):  # there is no limit
        pass
    return room // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def bytes_allocated_by(work: Callable[[], object]) -> int:
    """Bytes of all tensors that some work makes on its way: of a network, those that its gradient will need."""
    with torch.no_grad(), _Made() as made:
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in made.tensors.values())


class _Made(TorchDispatchMode):
    """Holds on to what operations return, one tensor for each place in memory: what is freed would be counted once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.tensors: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], kinds: object, given: tuple[Any, ...] = (), named: Any = None
    ) -> Any:
        made = function(*given, **(named or {}))
        for leaf in tree_leaves(made):
            if isinstance(leaf, Tensor):
                self.tensors[leaf.untyped_storage().data_ptr()] = leaf
        return made
