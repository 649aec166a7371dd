"""Images larger than the model's: overlapping tiles, blended into one estimate."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level

Window = tuple[slice, slice]
MOST_TILES = 1000


def windows(size: tuple[int, int], tile: tuple[int, int], overlap: float = 0.5) -> list[Window]:
    """Tiles that cover an image evenly, each overlapping the next by at least a share of its side.

    Args:
        size: Height and width of the image.
        tile: Height and width of a tile, at most those of the image.
        overlap: Minimum overlap as a share of a tile's side, in [0, 1).

    Raises:
        ValueError: If a tile is larger than the image, or there would be more than 1,000.
    """
    if size[0] < tile[0] or size[1] < tile[1]:
        raise ValueError(
            f"An image of {size[0]}x{size[1]} pixels is smaller than the {tile[0]}x{tile[1]} of the model. "
            "Enlarge it first, or train a model of this size."
        )
    down, across = (_num_windows(length, side, overlap) for length, side in zip(size, tile, strict=True))
    if down * across > MOST_TILES:
        raise ValueError(
            f"{size[0]}x{size[1]} pixels are {down * across:,} overlapping tiles of the model's {tile[0]}x{tile[1]}, "
            f"and at most {MOST_TILES:,} can be sampled. Scale the image (`resize`: to the model's size), cut out the "
            "part that matters, or train a model of larger images."
        )
    rows, columns = _starts(size[0], tile[0], down), _starts(size[1], tile[1], across)
    return [(slice(top, top + tile[0]), slice(left, left + tile[1])) for top in rows for left in columns]


def tiled(bind: Callable[[Window], Denoise], places: Sequence[Window]) -> Denoise:
    """A denoiser of whole images from denoisers of their tiles: the weighted mean of all tiles that cover a position.

    The weights decrease to the tiles' borders, so there are no visible seams; a mean of estimates is an estimate
    (Bar-Tal et al. 2023, MultiDiffusion, eq. 5), so samplers and guidance work on it as on any other. So do inverse
    methods, approximately where they differentiate it: its Jacobian is not symmetric. Those keep the graphs of all
    tiles of a step in memory.

    Args:
        bind: Function from a window to the denoiser of its tile.
        places: Windows that cover x.
    """
    return Tiled(tuple((place, bind(place)) for place in places))


@dataclass(frozen=True, eq=False)
class Tiled:
    """A denoiser of overlapping tiles: a `Denoise`.

    Args:
        parts: Windows of x, each with its denoiser.
    """

    parts: tuple[tuple[Window, Denoise], ...]

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The blended estimate."""
        x = torch.zeros_like(x_t)
        total = torch.zeros(x_t.shape[-2:], dtype=x_t.dtype, device=x_t.device)
        for (rows, columns), part in self.parts:
            seen = part(x_t[..., rows, columns], t, to=to).x
            weight = _triangle(seen.shape[-2], seen)[:, None] * _triangle(seen.shape[-1], seen)
            x = x + _placed(weight * seen, (rows, columns), x_t)
            total[rows, columns] += weight
        return Estimate.of_x(x_t, x / total, t)

    def __repr__(self) -> str:
        """The number of tiles and the denoiser of the first."""
        return f"Tiled({len(self.parts)} x {self.parts[0][1]})"


def _placed(tile: Tensor, place: Window, like: Tensor) -> Tensor:
    """The tile in an image of zeros; differentiable."""
    (rows, columns), (height, width) = place, like.shape[-2:]
    return torch.nn.functional.pad(tile, (columns.start, width - columns.stop, rows.start, height - rows.stop))


def _triangle(length: int, like: Tensor) -> Tensor:
    """Triangular weights, (length,), all above 0; made on the device of `like`, without a copy to it."""
    middle = (length - 1) / 2
    return 1 - (torch.arange(length, dtype=like.dtype, device=like.device) - middle).abs() / (middle + 1)


def _num_windows(length: int, side: int, overlap: float) -> int:
    return 1 if length == side else 1 + -(-(length - side) // max(1, round(side * (1 - overlap))))


def _starts(length: int, side: int, count: int) -> list[int]:
    return [round(i * (length - side) / max(count - 1, 1)) for i in range(count)]
