"""Largest micro-batch that fits into memory, on devices where it must be known in advance."""

from functools import partial

import torch
from torch import nn

from noisekiln.machine.memory import available_bytes, bytes_allocated_by
from noisekiln.training.batches import Batch, select_rows, torch_seeded
from noisekiln.training.precision import Precision

# Peak memory of a step, measured on unets of 0.7M to 32M parameters (LOG.md): activations times PER_ACTIVATION, and
# weights times PER_WEIGHT: gradients, moments, Muon's products, and a copy to save.
PER_ACTIVATION, PER_WEIGHT = 1.25, 9


def largest_micro_batch(module: nn.Module, batch: Batch, precision: Precision) -> float | None:
    """Number of images whose activations fit into memory; None on devices that raise an out-of-memory error.

    On a CPU the system kills the process instead. So the activations of one and of two rows are counted there.

    Args:
        module: Module that returns the loss of some rows when called with their columns; left in training mode.
        batch: Two rows or more.
        precision: Precision of the network.
    """
    room = available_bytes(precision.device)
    if room is None:
        return None
    module.eval()  # counting must not change running statistics
    with torch.compiler.set_stance("force_eager"), precision.autocast(), torch_seeded(0):
        one, two = (bytes_allocated_by(partial(module, *select_rows(batch, slice(count)))) for count in (1, 2))
    module.train()
    room -= PER_WEIGHT * sum(weight.nbytes for weight in module.parameters() if weight.requires_grad)
    return room / (PER_ACTIVATION * max(two - one, 1))
