"""Floating-point operations of a training step, counted."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(loss: Callable[[], Tensor]) -> int | None:
    """Floating-point operations of computing a loss and its gradients; None where they cannot be counted.

    Matrix products and convolutions are counted, forward and backward, and nothing else; a multiplication and an
    addition are two. Attention is computed by plain products meanwhile, as torch does not count its fused CPU kernel.

    Args:
        loss: Returns a 0-d value to be differentiated; gradients are left in its parameters.
    """
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss().backward()
    except RuntimeError:  # a network that does not run under torch's counter
        return None
    return int(counter.get_total_flops()) or None
