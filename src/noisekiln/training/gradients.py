"""Gradient of one training step: micro-batches, their average over ranks, clipping."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from noisekiln.distributed.ddp import gradient_sync
from noisekiln.distributed.sharded import gather
from noisekiln.distributed.shares import split_balanced, split_fixed_size
from noisekiln.distributed.wrapping import wrap
from noisekiln.training.batches import Batch, select_rows, torch_seeded
from noisekiln.training.placement import Placement
from noisekiln.training.precision import Precision


class LossLike(Protocol):
    """The part of a loss that the trainer needs."""

    @property
    def value(self) -> Tensor:
        """Mean over rows, 0-d, to be differentiated."""


class Gradients:
    """The gradient of a module's mean loss over a batch: the same however the batch is split.

    Args:
        module: Module that returns the loss of some rows when called with their columns.
        batch_size: Images in a step, over all processes.
        max_norm: Largest norm of the gradient; larger gradients are scaled down to it.
        precision: Precision of the network.
        placement: Processes, micro-batch and sharding.

    Attributes:
        forward: The module as training calls it: wrapped in DDP, sharded, or unchanged.
        parts: Rows of each process, by their index in the batch.
        micro_batch_size: Images in memory at once, in each process.
        losses: Losses that the module returned in the last step, one per micro-batch.
    """

    def __init__(
        self, module: nn.Module, *, batch_size: int, max_norm: float, precision: Precision, placement: Placement
    ) -> None:
        self.module = module
        self.batch_size = batch_size
        self.max_norm = max_norm
        self.precision = precision
        self.ranks = placement.ranks
        self.sharded = placement.sharded
        self.forward = wrap(module, self.ranks, placement.shard_blocks, precision.dtype)
        self.parts = split_balanced(batch_size, self.ranks.world_size)
        self.micro_batch_size = min(placement.micro_batch_size or batch_size, max(map(len, self.parts)))
        self.losses: list[LossLike] = []

    def accumulate(self, batch: Batch, seed: int) -> Tensor:
        """Add up the gradients of all micro-batches; the last one's backward pass averages them over the ranks.

        Args:
            batch: The rows of this process.
            seed: Seed of random numbers that the module itself draws from torch's generators, such as dropout.

        Returns:
            Contribution of these rows to the mean loss over the rows of all processes, 0-d.
        """
        self.losses, value = [], torch.zeros(())
        micro_batches = self._micro_batches(len(cast(Tensor, batch[0])))
        for number, rows in enumerate(micro_batches, 1):
            weight = len(rows) / self.batch_size
            with gradient_sync(self.forward, enabled=number == len(micro_batches)), torch_seeded(seed + number):
                with self.precision.autocast():
                    loss: LossLike = self.forward(*select_rows(batch, slice(rows.start, rows.stop)))
                self.losses.append(loss)
                value = value + weight * loss.value.detach()
                # Gradients are averaged over ranks, hence the factor. A NaN loss is differentiated too: sharded weights
                # keep the gradients of earlier micro-batches until the last one has run.
                self.precision.backward(loss.value * (weight * self.ranks.world_size))
        return value

    def finish(self, value: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[float, float]:
        """Unscale and clip the gradient, which is left in the parameters for the optimizers.

        Returns:
            The mean loss over the rows of all processes, and the gradient's norm before clipping.
        """
        self.precision.unscale(optimizers)
        norm = gather(nn.utils.clip_grad_norm_(self.module.parameters(), self.max_norm))
        self.precision.update_scale()
        here, norm_before = torch.stack([value, norm]).tolist()  # the step's one transfer from the device
        return self.ranks.all_reduce_sum([here])[0], norm_before

    def clear(self) -> None:
        """Delete the gradient."""
        self.module.zero_grad(set_to_none=True)

    def _micro_batches(self, count: int) -> list[range]:
        """Micro-batches of one size, so that few shapes are compiled; with sharding, the same number in all ranks."""
        lengths = list(map(len, self.parts)) if self.sharded else [count]
        return split_fixed_size(count, min(-(-max(lengths) // self.micro_batch_size), *lengths))
