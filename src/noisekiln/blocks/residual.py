"""Residual block of convolutions with adaptive group norm."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.group_norm import GroupNorm


class Residual(nn.Module):
    """``x + conv(act(modulate(norm(conv(act(norm(x)))))))``; the identity at the start of training.

    The embedding scales and shifts the middle (adaptive group norm, Dhariwal & Nichol 2021, section 3.1).

    Args:
        width: Channels, a multiple of `group`.
        embedding: Size of the embedding vector.
        group: Channels of each group of the norms.
    """

    def __init__(self, width: int, embedding: int, group: int = 16) -> None:
        super().__init__()
        self.norm1 = GroupNorm(width // group, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.modulate = nn.Linear(embedding, 2 * width)
        self.norm2 = GroupNorm(width // group, width, affine=False)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        for parameter in (self.modulate.weight, self.modulate.bias, self.conv2.weight):
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """(B, width, H, W) and (B, embedding) -> (B, width, H, W)."""
        scale, shift = self.modulate(embedding)[:, :, None, None].chunk(2, dim=1)
        h = self.conv1(F.silu(self.norm1(x)))
        h = torch.addcmul(shift, self.norm2(h), scale + 1)
        y: Tensor = x + self.conv2(F.silu(h))
        return y
