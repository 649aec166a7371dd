"""From images with holes to whole ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec
from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level, NoiseSource
from noisekiln.tasks.base import Size, Task

STROKES = 4


@dataclass(frozen=True)
class Inpaint(Task):
    """The known pixels and where they are is given, as an image with transparency: alpha 0 is to be painted.

    Both are shown, unknown pixels as zeros. What is known stays exactly as it is:
    ``x^ <- known where known, x^ elsewhere``, with the noise that follows.
    """

    def reads(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def observe(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """Holes of five kinds, equally often: a box, a half plane, all around a box, strokes, single pixels."""
        known = known_places(len(pixels), (pixels.shape[1], pixels.shape[2]), generator).to(pixels.device)
        return torch.cat([pixels, 255 * known.unsqueeze(-1).to(torch.uint8)], dim=-1)

    def show(self, given: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        known = (given[..., -1] > 127).unsqueeze(1).float()
        return torch.cat([codec.encode(given[..., :-1]) * known, known], dim=1)

    def hold(self, denoise: Denoise, image: Tensor) -> Denoise:  # noqa: D102
        x_known, known = image[:, :-1], image[:, -1:].bool()

        def held(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            x = torch.where(known, x_known, denoise(x_t, t, to=to).x)
            return Estimate(x, (x_t - t.alpha * x) / t.sigma)

        return held

    def picture(self, given: Tensor, size: Size) -> Tensor:
        """Holes are grey."""
        return torch.where(given[..., -1:] > 127, given[..., :-1], 128)


def known_places(count: int, size: Size, generator: torch.Generator) -> Tensor:
    """Which pixels are known in each of so many images, (count, H, W) bool, at random."""
    grid = torch.stack(
        torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in size), indexing="ij"), dim=-1
    )  # places of pixels in [0, 1], (H, W, 2)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    kinds = torch.stack(
        [
            ~_box(grid, uniform(0, 1, 2), uniform(0.1, 0.4, 2)),
            _half_plane(grid, uniform(0, 2 * math.pi), uniform(-0.35, 0.35)),
            _box(grid, uniform(0.3, 0.7, 2), uniform(0.15, 0.45, 2)),
            ~_strokes(grid, uniform(0, 1, STROKES, 2), uniform(0, 1, STROKES, 2), uniform(0.02, 0.08)),
            uniform(0, 1, *size) > uniform(0.3, 0.95)[:, None, None],
        ]
    )
    return kinds[torch.randint(len(kinds), (count,), generator=generator), torch.arange(count)]


def _box(grid: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    """Inside of an upright box: middle and half of its sides, (B, 2)."""
    return ((grid - middle[:, None, None]).abs() < half[:, None, None]).all(-1)


def _half_plane(grid: Tensor, angle: Tensor, offset: Tensor) -> Tensor:
    """One side of a line with this direction, so far from the middle, (B,)."""
    direction = torch.stack([angle.sin(), angle.cos()], dim=-1)[:, None, None]
    return ((grid - 0.5) * direction).sum(-1) > offset[:, None, None]


def _strokes(grid: Tensor, start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """Within `width` (B,) of any of the lines from start to end, (B, STROKES, 2)."""
    along = (end - start)[:, :, None, None]
    off = grid - start[:, :, None, None]
    share = ((off * along).sum(-1) / along.square().sum(-1).clamp(min=1e-9)).clamp(0, 1)
    distance: Tensor = torch.linalg.vector_norm(off - share[..., None] * along, dim=-1)
    return (distance < width[:, None, None, None]).any(1)
