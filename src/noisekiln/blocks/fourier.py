"""Sinusoidal embedding of the noise label."""

import math

import torch
from torch import Tensor, nn


class Fourier(nn.Module):
    """(B,) labels of order one -> (B, width) cosines and sines of unit variance, at frequencies of equal ratios.

    Args:
        width: Number of features, even.
    """

    frequency: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.logspace(-1, 4, width // 2, base=2.0), persistent=False)

    def forward(self, noise: Tensor) -> Tensor:
        """Features of each label."""
        angle = noise[:, None] * self.frequency
        return torch.cat([angle.cos(), angle.sin()], dim=1) * math.sqrt(2)
