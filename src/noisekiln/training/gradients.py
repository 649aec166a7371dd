"""The gradient of one training step: micro-batches, their average over ranks, clipping."""

from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor, nn

from noisekiln.distributed.ddp import gathering
from noisekiln.distributed.sharded import gather
from noisekiln.distributed.shares import split_equally, split_evenly
from noisekiln.distributed.wrapping import wrap
from noisekiln.training.batches import Batch, select_rows, torch_seeded
from noisekiln.training.placement import Placement
from noisekiln.training.precision import Precision


class HasValue(Protocol):
    """All that the trainer needs of a loss."""

    @property
    def value(self) -> Tensor:
        """0-d, the mean over rows, to be differentiated."""


class Gradients:
    """The gradient of a module's mean loss over a batch: the same however the batch is cut.

    Args:
        module: Called with the columns of some rows, it returns their loss.
        batch_size: Images in a step, over all processes.
        max_norm: Largest norm of the gradient; longer ones are scaled down to it.
        precision: What the network computes in.
        placement: The processes, the micro-batch, sharding.

    Attributes:
        forward: The module as training calls it: in DDP, sharded, or itself.
        parts: Rows of each process, by their place in the batch.
        micro_batch_size: Images in memory at once, in each process.
        losses: What the module returned in the last step, one entry a micro-batch.
    """

    def __init__(
        self, module: nn.Module, *, batch_size: int, max_norm: float, precision: Precision, placement: Placement
    ) -> None:
        self.module, self.batch_size, self.max_norm = module, batch_size, max_norm
        self.precision, self.ranks, self.sharded = precision, placement.ranks, placement.sharded
        self.forward = wrap(module, self.ranks, placement.shard_blocks, precision.dtype)
        self.parts = split_evenly(batch_size, self.ranks.world_size)
        self.micro_batch_size = min(placement.micro_batch_size or batch_size, max(map(len, self.parts)))
        self.losses: list[HasValue] = []

    def accumulate(self, batch: Batch, seed: int) -> Tensor:
        """Add up the gradients of all micro-batches; the last one's backward pass averages them over the ranks.

        Args:
            batch: The rows of this process.
            seed: Seed of what the module itself draws by torch's generators, such as dropout.

        Returns:
            0-d: what these rows add to the mean loss over the rows of all processes.
        """
        self.losses, value = [], torch.zeros(())
        pieces = self._micro_batches(len(cast(Tensor, batch[0])))
        for number, piece in enumerate(pieces, 1):
            weight = len(piece) / self.batch_size
            with gathering(self.forward, number == len(pieces)), torch_seeded(seed + number):
                with self.precision.autocast():
                    loss: HasValue = self.forward(*select_rows(batch, slice(piece.start, piece.stop)))
                self.losses.append(loss)
                value = value + weight * loss.value.detach()
                # Ranks are averaged over, hence the factor. A loss that is NaN is differentiated too: sharded weights
                # hold back what earlier micro-batches have gathered until the last one has run.
                self.precision.backward(loss.value * (weight * self.ranks.world_size))
        return value

    def finish(self, value: Tensor, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[float, float]:
        """Unscale and clip the gradient, which then is where the optimizers look for it.

        Returns:
            The mean loss over the rows of all processes, and the gradient's norm before clipping.
        """
        self.precision.unscale(optimizers)
        norm = gather(nn.utils.clip_grad_norm_(self.module.parameters(), self.max_norm))
        self.precision.update_scale()
        here, norm_before = torch.stack([value, norm]).tolist()  # the step's one transfer from the device
        return self.ranks.all_reduce_sum([here])[0], norm_before

    def clear(self) -> None:
        """Forget the gradient."""
        self.module.zero_grad(set_to_none=True)

    def _micro_batches(self, count: int) -> list[range]:
        """Of one size, so that the network is compiled for few shapes; all ranks take as many if they are sharded."""
        lengths = list(map(len, self.parts)) if self.sharded else [count]
        return split_equally(count, min(-(-max(lengths) // self.micro_batch_size), *lengths))
