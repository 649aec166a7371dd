"""Trial of a step, after which the state of training is restored."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from noisekiln.training.precision import Precision

MOMENTS = 2  # largest number of moments that an optimizer keeps per weight


@contextmanager
def restoring_state(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], precision: Precision
) -> Iterator[None]:
    """Restores gradients, buffers and the loss scale at the end of the context; weights must not be changed in it.

    Memory is reserved for the moments of optimizers, which allocate them only in their first step.

    Args:
        module: Trained module.
        optimizers: Optimizers of the module.
        precision: Precision of training.
    """
    scale, buffers = precision.state_dict(), [buffer.clone() for buffer in module.buffers()]
    reserved = [
        torch.empty_like(weight)
        for optimizer in optimizers
        for group in optimizer.param_groups
        for weight in group["params"]
        for _ in range(0 if weight in optimizer.state else MOMENTS)
    ]
    try:
        yield
    finally:
        module.zero_grad(set_to_none=True)
        reserved.clear()
        precision.load_state_dict(scale)
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
