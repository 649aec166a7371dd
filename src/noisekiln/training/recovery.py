"""Recovery of a step when memory runs out or compilation fails, in any of the processes."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from noisekiln.distributed.ddp import RecoverableDDP, check_all_have_gradients
from noisekiln.distributed.wrapping import wrap
from noisekiln.errors import BatchTooLarge, CompileFailed
from noisekiln.machine.devices import nondeterminism
from noisekiln.machine.memory import is_out_of_memory, release_cached
from noisekiln.training.batches import Batch
from noisekiln.training.gradients import Gradients

RetryableError = BatchTooLarge | CompileFailed


class Recovery:
    """Computes the gradient of a step; if memory runs out, again with micro-batches of half the size.

    All processes learn that one of them has failed before any of them uses the gradient. The failed one adds zeros to
    the averages that the others wait for; then all of them delete the gradient and repeat the step.

    Args:
        gradients: Gradient of a step, without recovery.
    """

    def __init__(self, gradients: Gradients) -> None:
        self.gradients, self.ranks = gradients, gradients.ranks

    def compute_gradient(
        self, make_batch: Callable[[], Batch], optimizers: Sequence[torch.optim.Optimizer], seed: int
    ) -> tuple[float, float]:
        """Compute the gradient, clipped, and leave it in the parameters for the optimizers.

        Args:
            make_batch: Makes the rows of this process.
            optimizers: The optimizers of the module.
            seed: Seed of random numbers that the module itself draws.

        Returns:
            The mean loss over the rows of all processes, and the gradient's norm before clipping.

        Raises:
            BatchTooLarge: If weights are sharded, and a micro-batch did not fit.
            CompileFailed: If the network cannot be compiled; no gradient is left.
            ValueError: If not even one image fits, or a parameter has no gradient that other processes wait for.
        """
        while True:
            try:
                value = self._accumulate(make_batch, seed)
                break
            except (BatchTooLarge, CompileFailed) as error:
                if self.gradients.sharded:  # the others are gathering weights, and cannot be reached
                    raise
                failed = error.with_traceback(None)  # its frames keep the memory that must be freed
            self.gradients.clear()
            self._prepare_retry(failed)
        if self.ranks.world_size > 1:
            check_all_have_gradients(self.gradients.module)
        return self.gradients.finish(value, optimizers)

    def _accumulate(self, make_batch: Callable[[], Batch], seed: int) -> Tensor:
        """This process's part of the loss; raises if any process has failed."""
        ddp = self.gradients.forward if isinstance(self.gradients.forward, RecoverableDDP) else None
        value, failed = torch.zeros(()), None
        if ddp:
            ddp.begin_step()
        try:
            value = self.gradients.accumulate(make_batch(), seed)
        except (RuntimeError, MemoryError) as error:
            failed = _classify(error)
            if self.gradients.sharded:
                raise failed from error
        if failed is not None:
            self.gradients.losses = []  # which keep activations for a backward pass
            release_cached()
            if ddp:
                ddp.join_with_zeros()
        self._raise_together(failed)
        return value

    def _raise_together(self, failed: RetryableError | None) -> None:
        """Raise in all processes if one has failed; no process waits for its device before it knows."""
        too_large, uncompiled = self.ranks.all_reduce_sum(
            [isinstance(failed, BatchTooLarge), isinstance(failed, CompileFailed)]
        )
        if failed is not None:
            raise failed
        if too_large:
            raise BatchTooLarge("memory ran out in another process")
        if uncompiled:
            raise CompileFailed("compilation failed in another process")

    def _prepare_retry(self, failed: RetryableError) -> None:
        """Halve the micro-batch and build DDP again, whose averages are incomplete; raise what cannot be retried."""
        gradients = self.gradients
        if isinstance(failed, BatchTooLarge):
            if gradients.micro_batch_size == 1:
                raise ValueError(
                    "Not even one image fits into memory with this network. Choose a smaller `model` or `size`, or a "
                    "`device` with more memory."
                ) from failed
            gradients.micro_batch_size = -(-gradients.micro_batch_size // 2)
        if self.ranks.world_size > 1:
            del gradients.forward
        release_cached()  # the old DDP too: two of them would both be called with gradients
        if self.ranks.world_size > 1:
            gradients.forward = wrap(gradients.module, self.ranks)
        if isinstance(failed, CompileFailed):
            raise failed


def _classify(error: RuntimeError | MemoryError) -> RetryableError:
    """The retryable error of this kind; any other error is raised unchanged."""
    if is_out_of_memory(error):
        return BatchTooLarge(str(error))
    from torch._dynamo.exc import TorchDynamoException  # takes most of a second to import, and is rarely needed

    if isinstance(error, TorchDynamoException):
        return CompileFailed(" ".join(str(error).split("\n")[:2]))  # which part of torch failed, and its message
    raise nondeterminism(error) or error
