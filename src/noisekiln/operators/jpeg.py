"""JPEG compression."""

import math
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.operators.base import Operator

# Annex K of ITU-T T.81: the quantisation step of each frequency of luma at quality 50.
TABLE = (
    (16, 11, 10, 16, 24, 40, 51, 61), (12, 12, 14, 19, 26, 58, 60, 55), (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62), (18, 22, 37, 56, 68, 109, 103, 77), (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101), (72, 92, 95, 98, 112, 100, 103, 99),
)  # fmt: skip


@dataclass(frozen=True)
class Jpeg(Operator):
    """JPEG's loss: the cosine transform of each 8x8 square, rounded to multiples of a table; channel by channel.

    Not linear: the derivative ignores the rounding (straight-through).

    Args:
        quality: Quality from 1 to 100, as in libjpeg.
    """

    quality: int = 10

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise ValueError(f"jpeg(quality={self.quality}): JPEG has no such quality. Give a number from 1 to 100.")

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        batch, channels, height, width = images.shape
        padded = F.pad(images, (0, -width % 8, 0, -height % 8), mode="replicate")
        rows, columns = padded.shape[-2] // 8, padded.shape[-1] // 8
        squares = (255 * padded - 128).view(batch, channels, rows, 8, columns, 8).transpose(3, 4)
        basis, table = _cosines(images.dtype, images.device), _table(self.quality, images.dtype, images.device)
        frequencies = (basis @ squares @ basis.T) / table
        rounded = frequencies + (frequencies.round() - frequencies).detach()
        squares = basis.T @ (rounded * table) @ basis
        kept = (squares.transpose(3, 4).reshape(padded.shape) + 128) / 255
        return kept[..., :height, :width]


@cache
def _table(quality: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The quantisation steps of all frequencies, (8, 8)."""
    scale = 50 / quality if quality < 50 else 2 - quality / 50
    return (scale * torch.tensor(TABLE, dtype=torch.float64)).round().clamp(1, 255).to(device, dtype)


@cache
def _cosines(dtype: torch.dtype, device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 numbers, (8, 8)."""
    n = torch.arange(8, dtype=torch.float64)
    rows = torch.cos(math.pi * (2 * n + 1) * n[:, None] / 16) / 2
    rows[0] /= math.sqrt(2)
    return rows.to(device, dtype)
