"""Counting the work of a training step."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(loss: Callable[[], Tensor]) -> int | None:
    """Floating-point operations of computing a loss and its gradients; None where they cannot be counted.

    Products of matrices and convolutions are counted, forward and backward, and nothing else: a multiplication and an
    addition are two. Attention is done by plain products here, as torch does not count its fused kernel on a CPU.

    Args:
        loss: Returns a 0-d value to be differentiated; gradients are left where it has parameters.
    """
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss().backward()
    except RuntimeError:  # a network that does not run under torch's counter
        return None
    return int(counter.get_total_flops()) or None
