"""A local function of an image, applied tile by tile, so that memory stays bounded."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

Part = tuple[slice, slice]  # rows or columns of a tile with its margin; those of its result without it


def apply_in_tiles(
    function: Callable[[Tensor], Tensor], x: Tensor, *, side: int, margin: int, scale: tuple[int, int]
) -> Tensor:
    """``function(x)``, computed on overlapping tiles.

    Equal to the whole, up to rounding, if an output depends on inputs at most `margin` away.

    Args:
        function: From (B, C, H, W) to (B, C', H up / down, W up / down).
        x: (B, C, H, W), height and width multiples of `down`.
        side: Side of a tile without its margin, a multiple of `down`.
        margin: Width of the overlap, a multiple of `down`.
        scale: (up, down): sides of the output are `up / down` times those of x.
    """
    height, width = x.shape[-2:]
    if height <= side + 2 * margin and width <= side + 2 * margin:
        return function(x)
    rows = [
        torch.cat(
            [function(x[..., tall, wide])[..., top, left] for wide, left in _slices(width, side, margin, scale)], dim=-1
        )
        for tall, top in _slices(height, side, margin, scale)
    ]
    return torch.cat(rows, dim=-2)


def _slices(length: int, side: int, margin: int, scale: tuple[int, int]) -> Iterator[Part]:
    up, down = scale
    for start in range(0, length, side):
        stop, first = min(start + side, length), max(start - margin, 0)
        kept = slice((start - first) * up // down, (stop - first) * up // down)
        yield slice(first, min(stop + margin, length)), kept
