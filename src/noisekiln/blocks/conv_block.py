"""Residual block of convolutions without norms: each output depends on a small square of its input."""

from torch import Tensor, nn
from torch.nn import functional as F


class ConvBlock(nn.Module):
    """``x + conv(act(conv(act(x))))``; the identity at the start of training.

    Args:
        width: Channels.
    """

    RADIUS = 2  # positions that an output sees on each side

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        assert self.conv2.bias is not None
        nn.init.zeros_(self.conv2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        y: Tensor = x + self.conv2(F.silu(self.conv1(F.silu(x))))
        return y
