"""Batches of a training step: the rows of each process, and their random numbers."""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from noisekiln.machine.transfer import SideStream, to_device

Batch = tuple[Tensor | None, ...]
"""Columns of a batch: tensors with one row per image, or None."""

BatchSource = Callable[[int, int, torch.Generator], Batch]
"""(images seen before, number of images, source of randomness) -> their rows, including all random values."""

OrderedMap = Callable[[Callable[[int], Batch], range], Iterable[Batch]]

CHUNK = 64  # images that share a source of randomness
THREADS = 4  # threads that draw random numbers ahead; one draws about 10^8 per second


def make_batch(
    batches: BatchSource, seed: int, start: int, count: int, part: range, ordered_map: OrderedMap = map
) -> Batch:
    """Some rows of a step's batch; a row does not depend on which part of the batch is requested.

    Random numbers are drawn for `CHUNK` images at a time, from the seed and the images seen before them, and then
    split: ranks and micro-batches agree on every number, and no process draws numbers that only others need.

    Args:
        batches: Makes the rows.
        seed: Seed of the run.
        start: Images seen before the step.
        count: Images in the step.
        part: Requested rows, by their index in the step.
        ordered_map: Makes the chunks, in order: `map`, or the `map` of a thread pool.
    """

    def make_chunk(offset: int) -> Batch:
        size = min(CHUNK, count - offset)
        rows = batches(start + offset, size, torch.Generator().manual_seed(derive_seed(seed, start + offset)))
        return select_rows(rows, slice(max(part.start - offset, 0), min(part.stop - offset, size)))

    return concat_rows(list(ordered_map(make_chunk, range(part.start - part.start % CHUNK, part.stop, CHUNK))))


class Prefetcher:
    """The rows of this process, step by step; those of the next step can be made while a step runs.

    Args:
        batches: Makes the rows, on any device.
        seed: Seed of the run.
        count: Images in a step.
        part: Rows of this process, by their index in the step.
        ahead: Whether to make the next rows in threads and move them to the device; on CUDA in a separate stream, so
            that neither copies nor encoding wait for the step.
        device: Device of rows made ahead: "cpu", "cuda" or "mps".
    """

    def __init__(
        self, batches: BatchSource, seed: int, count: int, part: range, *, ahead: bool, device: str = "cpu"
    ) -> None:
        self.batches = batches
        self.seed = seed
        self.count = count
        self.part = part
        self.device = device
        self._next: tuple[int, Future[Batch]] | None = None
        self._ordered_map: OrderedMap = map
        self._stream = SideStream(device if ahead else "cpu")
        self._thread: ThreadPoolExecutor | None = None
        if ahead:
            self._thread = ThreadPoolExecutor(1, initializer=self._stream.enter_thread)
            self._ordered_map = ThreadPoolExecutor(THREADS, initializer=self._stream.enter_thread).map

    def __call__(self, images_seen: int) -> Batch:
        """The rows of the step that starts after `images_seen` images."""
        if self._thread is None:
            return self._make(images_seen)
        expected, self._next = self._next, None
        if expected and expected[0] == images_seen + self.count:  # a step is repeated
            self._next = expected
            return self._receive(self._thread.submit(self._make, images_seen))
        made = expected[1] if expected and expected[0] == images_seen else self._thread.submit(self._make, images_seen)
        rows = self._receive(made)
        self._next = images_seen + self.count, self._thread.submit(self._make, images_seen + self.count)
        return rows

    def _receive(self, made: Future[Batch]) -> Batch:
        rows = made.result()
        self._stream.hand_over(rows)  # before the next rows are started, so that only these are waited for
        return rows

    def _make(self, images_seen: int) -> Batch:
        rows = make_batch(self.batches, self.seed, images_seen, self.count, self.part, self._ordered_map)
        if self._thread is None:
            return rows
        return tuple(None if column is None else to_device(column, self.device) for column in rows)


def select_rows(batch: Batch, part: slice) -> Batch:
    """Some rows of a batch."""
    return tuple(None if column is None else column[part] for column in batch)


def concat_rows(batches: list[Batch]) -> Batch:
    """The rows of several batches in order; a column that is None in one of them is None."""
    if len(batches) == 1:
        return batches[0]
    columns = zip(*batches, strict=True)
    return tuple(
        None if any(part is None for part in column) else torch.cat([part for part in column if part is not None])
        for column in columns
    )


def derive_seed(*numbers: int) -> int:
    """A seed derived from (seed of the run, images seen, ...): similar numbers give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=7).digest())


@contextmanager
def torch_seeded(seed: int) -> Iterator[None]:
    """Seeds torch's global generators while the context is open; the CPU's is restored afterwards.

    `torch.manual_seed` would take milliseconds: for every kind of device that this process does not use, it keeps the
    call and where it came from.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        if torch.cuda.is_initialized():
            torch.cuda.manual_seed_all(seed)
        if torch.backends.mps.is_available():
            torch.mps.manual_seed(seed)
        yield
