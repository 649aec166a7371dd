"""Rotary position embedding over the rows and columns of an image."""

import torch
from torch import Tensor

LONGEST = 100.0  # patches: the slowest pair turns once in 2 pi times as many


def rotary_angles(height: int, width: int, features: int, device: torch.device) -> Tensor:
    """The angle by which each pair of features is turned at each position, (height * width, features / 2).

    The first half of the pairs turn with the row, the second with the column, at frequencies of equal ratios, so that
    a product of two turned vectors depends only on how far apart their positions are (Su et al. 2021, in two axes).

    Args:
        height: Rows of positions.
        width: Columns of positions.
        features: Features of each vector, a multiple of 4.
        device: Device of the result.
    """
    frequencies = LONGEST ** -torch.linspace(0, 1, features // 4, device=device)
    rows, columns = (torch.arange(side, device=device)[:, None] * frequencies for side in (height, width))
    pairs = [rows[:, None].expand(height, width, -1), columns[None].expand(height, width, -1)]
    return torch.cat(pairs, dim=2).flatten(0, 1)


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn pair i of features, i and i + features / 2, by its angle.

    Args:
        x: Vectors at positions, (..., positions, features).
        cosine: Cosines of the angles, (positions, features / 2).
        sine: Their sines.
    """
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cosine - second * sine, first * sine + second * cosine], dim=-1)
