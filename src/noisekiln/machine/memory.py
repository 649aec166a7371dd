"""Available memory, and recovery when it runs out."""

import errno
import gc
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Protocol, TypeVar
from weakref import WeakSet, ref

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from noisekiln.errors import BatchTooLarge

Result = TypeVar("Result")

MESSAGES = (
    "out of memory",
    "can't allocate",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "could not create a primitive",
    "could not execute a primitive",
    "unable to find an engine",  # cuDNN's, for which no workspace is left
)
CGROUP = Path("/sys/fs/cgroup")  # limits of a container


def is_out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory is full; only CUDA has a class for it, others have a message."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    message = str(error).lower() if isinstance(error, RuntimeError) else ""
    classes = (torch.OutOfMemoryError, MemoryError, BatchTooLarge)
    return isinstance(error, classes) or any(words in message for words in MESSAGES)


def raises_on_oom(device: str) -> bool:
    """Whether the device raises when out of memory (GPU) instead of the system killing the process (CPU)."""
    return device != "cpu"


def is_async(device: str) -> bool:
    """Whether the device works asynchronously, while the CPU is idle."""
    return device != "cpu"


class Releasable(Protocol):
    """An object that keeps memory which it can do without for a while."""

    def release(self) -> None:
        """Release the memory."""


_releasable: WeakSet[Releasable] = WeakSet()


def release_on_demand(holder: Releasable) -> None:
    """Have an object release its memory whenever `release_cached` is called, as long as it lives."""
    _releasable.add(holder)


def release_cached() -> None:
    """Release memory that is cached for later use."""
    for holder in list(_releasable):
        holder.release()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if torch.backends.mps.is_available():
        torch.mps.empty_cache()


def retry_with_halves(work: Callable[[int], Result], count: int) -> Result:
    """The result of `work(count)`; if memory runs out, it is tried again with half the count, down to 1."""
    while True:
        try:
            return work(count)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or count == 1:
                raise
        count = -(-count // 2)
        release_cached()


def available_bytes(device: str) -> int | None:
    """Bytes of main memory that a process can still allocate; None on other devices, or if unknown."""
    meminfo = Path("/proc/meminfo")
    if device != "cpu" or not meminfo.exists():
        return None
    lines = dict(line.split(":", 1) for line in meminfo.read_text(encoding="utf-8").splitlines())
    available = 1024 * int(lines["MemAvailable"].split()[0])
    try:
        limit, used = (int((CGROUP / f"memory.{name}").read_text(encoding="utf-8")) for name in ("max", "current"))
        stat = dict(line.split() for line in (CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines())
        # Cached pages of files are freed when memory is needed.
        available = min(available, limit - used + int(stat["inactive_file"]) + int(stat["active_file"]))
    except (OSError, ValueError, KeyError):  # there is no limit
        pass
    processes = os.environ.get("LOCAL_WORLD_SIZE", "")  # on this machine; set by torchrun
    return available // (int(processes) if processes.isdecimal() and int(processes) else 1)


def free_bytes(device: torch.device) -> int | None:
    """Bytes that a process can still allocate on a device: main memory or that of a GPU of CUDA; None if unknown."""
    if device.type != "cuda":
        return available_bytes(device.type)
    free, _ = torch.cuda.mem_get_info(device)
    cached: int = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return free + cached


def bytes_allocated_by(work: Callable[[], object]) -> int:
    """Bytes of all tensors that `work` makes: for a network's call, about the memory that its gradient needs."""
    with torch.no_grad(), _TensorRecorder() as recorder:
        work()
    return sum(tensor.untyped_storage().nbytes() for tensor in recorder.tensors.values())


def peak_bytes_of(work: Callable[[], object]) -> int:
    """Most bytes, at one moment, of the tensors that `work` makes without gradients: what a network's call needs.

    It runs `work` eagerly, at full speed; what a kernel uses inside is not counted.
    """
    may_be_compiled = "torch._dynamo" in sys.modules  # which takes more than a second to import
    stance = torch.compiler.set_stance("force_eager") if may_be_compiled else nullcontext()
    recorder = _PeakRecorder()
    with torch.no_grad(), stance, recorder:
        work()
    return recorder.peak


class _TensorRecorder(TorchDispatchMode):
    """Keeps the tensors that operations return, one per address; none is freed, so that no address is used twice."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.tensors: dict[int, Tensor] = {}

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.tensors[leaf.untyped_storage().data_ptr()] = leaf
        return result


class _PeakRecorder(TorchDispatchMode):
    """Adds up the tensors that operations make, for as long as they live; not those that they are given, as weights.

    Attributes:
        peak: The most bytes at one moment.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch has no types here
        self.peak = 0
        self._now = 0
        self._alive: dict[int, ref[torch.UntypedStorage]] = {}  # by the address of the object, unique while it lives

    def __torch_dispatch__(
        self, function: Callable[..., Any], types: object, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for storage in _storages_of((args, kwargs)):
            self._add(storage, 0)
        result = function(*args, **(kwargs or {}))
        for storage in _storages_of(result):
            self._add(storage, storage.nbytes())
        return result

    def _add(self, storage: torch.UntypedStorage, size: int) -> None:
        key = id(storage)
        if key not in self._alive:
            self._alive[key] = ref(storage, lambda _: self._remove(key, size))
            self._now += size
            self.peak = max(self.peak, self._now)

    def _remove(self, key: int, size: int) -> None:
        del self._alive[key]
        self._now -= size


def _storages_of(values: object) -> list[torch.UntypedStorage]:
    """The storage of each tensor in nested values."""
    return [leaf.untyped_storage() for leaf in tree_leaves(values) if isinstance(leaf, Tensor)]
