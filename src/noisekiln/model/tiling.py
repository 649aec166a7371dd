"""Larger than the model's images: overlapping tiles, blended into one estimate."""

from collections.abc import Callable

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level

Window = tuple[slice, slice]
MOST = 1000


def windows(size: tuple[int, int], tile: tuple[int, int], overlap: float = 0.5) -> list[Window]:
    """Tiles that cover an image evenly, each overlapping the next by a share of its side or more.

    Args:
        size: Height and width of the image.
        tile: Of a tile, at most the image's.
        overlap: Least share, in [0, 1).

    Raises:
        ValueError: If a tile is larger than the image, or there would be more than 1,000.
    """
    if size[0] < tile[0] or size[1] < tile[1]:
        raise ValueError(
            f"An image of {size[0]}x{size[1]} pixels is smaller than the {tile[0]}x{tile[1]} that the model paints. "
            "Enlarge it first, or train a model of this size."
        )
    down, across = (_count(length, side, overlap) for length, side in zip(size, tile, strict=True))
    if down * across > MOST:
        raise ValueError(
            f"{size[0]}x{size[1]} pixels are {down * across:,} overlapping tiles of the {tile[0]}x{tile[1]} "
            "that the model paints: more than anybody waits for. Scale the picture (--resize: to the model's size), "
            "cut out the part that matters, or train a model of larger images."
        )
    rows, columns = _starts(size[0], tile[0], down), _starts(size[1], tile[1], across)
    return [(slice(top, top + tile[0]), slice(left, left + tile[1])) for top in rows for left in columns]


def tiled(bind: Callable[[Window], Denoise], places: list[Window]) -> Denoise:
    """A model of whole images from models of their tiles: at every pixel the weighted mean of all that cover it.

    The weights fall to the tiles' borders, so no seam is seen; a mean of estimates is one (Bar-Tal et al. 2023,
    MultiDiffusion, eq. 5), so samplers and guidance work on it as on any other. So do inverse methods, approximately
    where they differentiate it: its Jacobian is not symmetric. Those keep the graphs of all tiles of a step in memory.

    Args:
        bind: The model of the tile at a window.
        places: Windows that cover the image.
    """
    parts = [(place, bind(place)) for place in places]

    def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        x = torch.zeros_like(x_t)
        total = torch.zeros(x_t.shape[-2:], dtype=x_t.dtype, device=x_t.device)
        for (rows, columns), part in parts:
            seen = part(x_t[..., rows, columns], t, to=to).x
            weight = _hill(seen.shape[-2]).to(seen)[:, None] * _hill(seen.shape[-1]).to(seen)
            x = x + _placed(weight * seen, (rows, columns), x_t)
            total[rows, columns] += weight
        x = x / total
        return Estimate.of_x(x_t, x, t)

    return denoise


def _placed(tile: Tensor, place: Window, like: Tensor) -> Tensor:
    """The tile in an image of zeros; written so that gradients pass."""
    (rows, columns), (height, width) = place, like.shape[-2:]
    return torch.nn.functional.pad(tile, (columns.start, width - columns.stop, rows.start, height - rows.stop))


def _hill(length: int) -> Tensor:
    """A triangle, nowhere 0."""
    middle = (length - 1) / 2
    return 1 - (torch.arange(length) - middle).abs() / (middle + 1)


def _count(length: int, side: int, overlap: float) -> int:
    return 1 if length == side else 1 + -(-(length - side) // max(1, round(side * (1 - overlap))))


def _starts(length: int, side: int, count: int) -> list[int]:
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]
