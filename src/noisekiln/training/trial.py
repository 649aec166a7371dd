"""A trial step, which leaves no trace."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from noisekiln.training.precision import Precision

MOMENTS = 2  # that an optimizer keeps of a weight, at most


@contextmanager
def leaving_no_trace(
    module: nn.Module, optimizers: Sequence[torch.optim.Optimizer], precision: Precision
) -> Iterator[None]:
    """At its end, gradients, buffers and the loss scale are as before; weights must not be changed meanwhile.

    Room is reserved for the moments of optimizers, which they allocate in their first step only.

    Args:
        module: What is trained.
        optimizers: The optimizers of the module.
        precision: The precision that it is trained in.
    """
    scale, buffers = precision.state_dict(), [buffer.clone() for buffer in module.buffers()]
    room = [
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
        room.clear()
        precision.load_state_dict(scale)
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
