"""Count of the floating-point operations of a training step."""

from collections.abc import Callable

from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_flops(loss: Callable[[], Tensor]) -> int | None:
    """Floating-point operations of computing a loss and its gradients; None if they cannot be counted.

    Only matrix products and convolutions are counted, forward and backward; a multiplication and an addition are two.
    For this, attention is computed by plain products, as torch does not count its fused CPU kernel.

    Args:
        loss: Function that returns a 0-d value to differentiate; gradients are left in the parameters.
    """
    try:
        with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
            loss().backward()
    except RuntimeError:  # a network that does not run under torch's counter
        return None
    return int(counter.get_total_flops()) or None
