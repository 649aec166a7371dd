"""The rows of a step: whose they are, and what is random about them."""

import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

Batch = tuple[Tensor | None, ...]
"""A batch: tensors with a row for each image, or None."""

BatchSource = Callable[[int, int, torch.Generator], Batch]
"""(images seen before, how many, source of randomness) -> the next rows, with all that is random about them."""

Each = Callable[[Callable[[int], Batch], range], Iterable[Batch]]

SHARD = 64  # images that share a source of randomness
THREADS = 4  # that draw random numbers ahead, of which one draws some 10^8 a second


def make_batch(batches: BatchSource, seed: int, start: int, count: int, part: range, each: Each = map) -> Batch:
    """Some rows of a step's batch: the same ones, whoever asks for them and however the batch is cut.

    Randomness is drawn for a shard of `SHARD` images at a time, from the seed and the images seen before it, and then
    cut: processes and micro-batches agree on every number, and nobody draws what others need.

    Args:
        batches: What makes them.
        seed: Of the run.
        start: Images seen before the step.
        count: Images in the step.
        part: Which of them, by their place in the step.
        each: Makes the shards, in order: `map`, or that of a pool of threads.
    """

    def made(shard: int) -> Batch:
        size = min(SHARD, count - shard)
        rows = batches(start + shard, size, torch.Generator().manual_seed(derive_seed(seed, start + shard)))
        return select_rows(rows, slice(max(part.start - shard, 0), min(part.stop - shard, size)))

    return concat_rows(list(each(made, range(part.start - part.start % SHARD, part.stop, SHARD))))


class Prefetcher:
    """The rows of this process, step by step; the next step's may be made while one runs.

    Args:
        batches: What makes them.
        seed: Of the run.
        count: Images in a step.
        part: Which of them are this process's.
        ahead: Whether to make the next ones in threads.
    """

    def __init__(self, batches: BatchSource, seed: int, count: int, part: range, *, ahead: bool) -> None:
        self.batches, self.seed, self.count, self.part = batches, seed, count, part
        self._thread = _threads(1) if ahead else None
        self._each: Each = _threads(THREADS).map if ahead else map
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, images_seen: int) -> Batch:
        """Those of the step that begins there."""
        if self._thread is None:
            return self._made(images_seen)
        expected, self._next = self._next, None
        if expected and expected[0] == images_seen + self.count:  # a step is begun again
            self._next = expected
            return self._made(images_seen)
        rows = expected[1].result() if expected and expected[0] == images_seen else self._made(images_seen)
        self._next = images_seen + self.count, self._thread.submit(self._made, images_seen + self.count)
        return rows

    def _made(self, images_seen: int) -> Batch:
        return make_batch(self.batches, self.seed, images_seen, self.count, self.part, self._each)


def _threads(count: int) -> ThreadPoolExecutor:
    """That put tensors where this one does: each has a graphics card of its own choice, at first the first one."""
    if not torch.cuda.is_available():
        return ThreadPoolExecutor(count)
    return ThreadPoolExecutor(count, initializer=torch.cuda.set_device, initargs=(torch.cuda.current_device(),))


def select_rows(rows: Batch, part: slice) -> Batch:
    """Some of the rows."""
    return tuple(None if column is None else column[part] for column in rows)


def concat_rows(pieces: list[Batch]) -> Batch:
    """Batch after rows."""
    if len(pieces) == 1:
        return pieces[0]
    columns = zip(*pieces, strict=True)
    return tuple(
        None if any(piece is None for piece in column) else torch.cat([piece for piece in column if piece is not None])
        for column in columns
    )


def derive_seed(*numbers: int) -> int:
    """A seed from (seed of the run, images seen, ...): neighbouring shards and runs get unrelated ones."""
    return int.from_bytes(hashlib.blake2b("/".join(map(str, numbers)).encode(), digest_size=7).digest())
