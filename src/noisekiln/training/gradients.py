"""The gradient of a step: in pieces that fit into memory, averaged over processes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from noisekiln.distributed.ddp import RecoverableDDP, gathering
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.sharded import gather
from noisekiln.distributed.shares import split_evenly
from noisekiln.errors import BatchTooLarge, CompileFailed
from noisekiln.machine.memory import available_bytes, bytes_allocated_by, is_out_of_memory, release_cached
from noisekiln.training.batches import Batch, select_rows
from noisekiln.training.precision import Precision

# What a step takes at its most, measured on unets of 0.7M to 32M parameters (LOG.md): of what a row makes on its way,
# and of the weights: their gradients, moments, Muon's products; and a copy to be saved.
OF_ROWS, OF_WEIGHTS = 1.25, 9


class HasValue(Protocol):
    """All that the trainer needs of a loss."""

    @property
    def value(self) -> Tensor:
        """0-d, the mean over rows, to be differentiated."""


class Gradients:
    """Takes the gradient of a module's loss over a batch, which is the same however the batch is cut.

    Args:
        module: Called with the columns of some rows, it returns their loss.
        batch_size: Batch in a step, over all processes.
        micro_batch_size: Batch in memory at once, in each process.
        clip: Largest norm of the gradient.
        precision: How many bits the network runs in.
        ranks: The processes that train together.
        blocks: If given, weights are sharded over processes, these parts of the module one by one.

    Attributes:
        losses: What the module returned in the last step, piece by piece.
        parts: The rows of each process, by their place in the step.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        batch_size: int,
        micro_batch_size: int | None,
        clip: float,
        precision: Precision,
        ranks: Ranks,
        blocks: Sequence[nn.Module] | None = None,
    ) -> None:
        self.module, self.forward = module, ranks.wrap(module, blocks)
        self.sharded = blocks is not None and ranks.world_size > 1
        self.batch_size, self.clip, self.precision, self.ranks = batch_size, clip, precision, ranks
        self.parts = split_evenly(batch_size, ranks.world_size)
        self.micro_batch_size = min(micro_batch_size or batch_size, max(map(len, self.parts)))
        self.losses: list[HasValue] = []

    def take(
        self, rows: Callable[[], Batch], optimizers: Sequence[torch.optim.Optimizer], seed: int
    ) -> tuple[float, float]:
        """Leave the gradient, clipped, where the optimizers look for it; if memory runs out, in smaller pieces.

        Args:
            rows: Makes those of this process.
            optimizers: Of the module.
            seed: Of what the module itself draws by torch's own generators, such as dropout.

        Returns:
            The loss over all rows of all processes, and the norm before clipping.

        Raises:
            BatchTooLarge: If weights are sharded, and a piece did not fit.
            CompileFailed: If the network cannot be compiled; nothing was taken.
            ValueError: If not even one row fits.
        """
        while True:
            try:
                value = self._accumulate(rows, seed)
            except (BatchTooLarge, CompileFailed) as error:
                if self.sharded:  # the others are in the midst of gathering weights, and cannot be told
                    raise
                failed = error.with_traceback(None)  # its frames hold on to what has to go
            else:
                self._check_all_have_gradients()
                self.precision.unscale(optimizers)
                norm = float(gather(nn.utils.clip_grad_norm_(self.module.parameters(), self.clip)))
                self.precision.settle()
                return value, norm
            self.clear()
            self._begin_anew(failed)

    def clear(self) -> None:
        """Forget the gradient."""
        self.module.zero_grad(set_to_none=True)

    def fit(self, rows: Callable[[], Batch], device: str) -> None:
        """Lower `micro_batch_size` to what fits into the memory that is free, where that has to be known before.

        On a CPU nobody says that memory runs out: the system kills the process. So what rows make there is counted.

        Args:
            rows: Makes those of this process.
            device: Where the module is.
        """
        room = available_bytes(device)
        if room is None or self.sharded:
            return
        some = rows()
        self.module.eval()  # to be left as it is
        with torch.compiler.set_stance("force_eager"), self.precision.autocast(), seeded(0):
            one, two = (bytes_allocated_by(partial(self.module, *select_rows(some, slice(count)))) for count in (1, 2))
        self.module.train()
        room -= OF_WEIGHTS * sum(weight.nbytes for weight in self.module.parameters() if weight.requires_grad)
        fits = torch.tensor([room / (OF_ROWS * max(two - one, 1))])
        self.micro_batch_size = min(
            self.micro_batch_size, max(1, int(self.ranks.all_gather(fits, self.ranks.world_size).min()))
        )

    def _accumulate(self, rows: Callable[[], Batch], seed: int) -> float:
        self.losses, failed = [], None
        averaged = self.forward if isinstance(self.forward, RecoverableDDP) else None
        if averaged:
            averaged.begin()
        try:
            values = self._backward(rows, seed)
        except (RuntimeError, MemoryError) as error:
            failed = _foreseen(error)
            if self.sharded:
                raise failed from error
            self.losses = []  # with all that they keep for a backward pass
        if failed is not None:
            release_cached()
            if averaged:
                averaged.join_with_zeros()
        # Here all processes learn of it, before any of them waits for its device.
        short, uncompiled = self.ranks.all_reduce_sum(
            [isinstance(failed, BatchTooLarge), isinstance(failed, CompileFailed)]
        )
        if short or uncompiled:
            raise failed or (BatchTooLarge if short else CompileFailed)("in another process")
        return self.ranks.all_reduce_sum([float(sum(values))])[0]

    def _backward(self, rows: Callable[[], Batch], seed: int) -> list[Tensor]:
        """Add up gradients, of the last piece over all processes; what the pieces add to the loss."""
        made = rows()
        there = len(cast(Tensor, made[0]))
        # Sharded weights are gathered for every piece, so that all processes take as many.
        lengths = list(map(len, self.parts)) if self.sharded else [there]
        count = min(-(-max(lengths) // self.micro_batch_size), *lengths)
        values: list[Tensor] = []
        for number, piece in enumerate(split_evenly(there, count), 1):
            weight = len(piece) / self.batch_size  # of its mean, in that of all rows of all processes
            with gathering(self.forward, number == count), seeded(seed + number):
                with self.precision.autocast():
                    loss: HasValue = self.forward(*select_rows(made, slice(piece.start, piece.stop)))
                self.losses.append(loss)
                values.append(weight * loss.value.detach())
                # Processes are averaged over. One that is no number goes back too: sharded weights keep what pieces
                # have gathered until the last one has.
                self.precision.backward(loss.value * (weight * self.ranks.world_size))
        return values

    def _begin_anew(self, error: BatchTooLarge | CompileFailed) -> None:
        """With pieces of half the size; what averages had begun is forgotten with what takes them."""
        if isinstance(error, BatchTooLarge) and self.micro_batch_size == 1:
            raise ValueError(
                "Not even one image fits into memory with this network. Take a smaller --model or --size, or a device "
                "with more memory."
            ) from error
        if isinstance(error, BatchTooLarge):
            self.micro_batch_size = -(-self.micro_batch_size // 2)
        if self.ranks.world_size > 1:
            del self.forward
        release_cached()  # also what averages: two of them would both hear of gradients
        if self.ranks.world_size > 1:
            self.forward = self.ranks.wrap(self.module)
        if isinstance(error, CompileFailed):
            raise error

    def _check_all_have_gradients(self) -> None:
        """Raise ValueError for idle parameters, where several processes would wait for what never comes."""
        if self.ranks.world_size == 1:
            return
        trained = ((name, weight) for name, weight in self.module.named_parameters() if weight.requires_grad)
        idle = [name for name, weight in trained if weight.grad is None]
        if idle:
            raise ValueError(
                f"{', '.join(idle[:3])} had no part in the loss, and several processes can only average gradients "
                "that all of them have. Take out of the network what it does not use, or train with one process."
            )


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """While it is open, torch's own generators begin at a seed; that of the processor then goes on as before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield


def _foreseen(error: RuntimeError | MemoryError) -> BatchTooLarge | CompileFailed:
    """What the other processes have to be told; raises any other error as it is."""
    if is_out_of_memory(error):
        return BatchTooLarge(str(error))
    from torch._dynamo.exc import TorchDynamoException  # which takes most of a second, and is rarely needed

    if isinstance(error, TorchDynamoException):
        return CompileFailed(" ".join(str(error).split("\n")[:2]))  # which part of torch, and what it said
    raise error
