"""Inpainting: from images with missing pixels to complete ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec, Size, pixels_per_position
from noisekiln.estimate import Denoise, Estimate
from noisekiln.levels import Level, NoiseSource
from noisekiln.tasks.base import Task

STROKES = 4
GREY = 128


@dataclass(frozen=True)
class Inpaint(Task):
    """The source is an image with an alpha channel: transparent pixels are generated, opaque ones are known.

    The network sees the known part, zeros elsewhere, and the mask. Known pixels stay unchanged in x:
    ``x^ <- known where known, x^ elsewhere``, and the estimated noise follows. A position of x is known where all its
    pixels are.
    """

    def source_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def condition_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """Holes of five kinds, equally often: a box, a half plane, everything outside a box, strokes, single pixels."""
        known = known_pixels(len(images), (images.shape[1], images.shape[2]), generator).to(images.device)
        return torch.cat([images, 255 * known.unsqueeze(-1).to(torch.uint8)], dim=-1)

    def check_source(self, source: Tensor | None, count: int, channels: int) -> Tensor:
        """As for every task; and some pixel has to be transparent."""
        checked = super().check_source(source, count, channels)
        if bool((checked[..., -1] > 127).all()):
            raise ValueError(
                "No pixel of the image is transparent, and those that are get filled in: it would stay as it is. Erase "
                "what is to be new, and save it as PNG."
            )
        return checked

    def condition_image(self, source: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        known = (source[..., -1:] > 127).float()
        x = codec.encode(_fill_unknown(source[..., :-1], known))
        known = _known_positions(known.permute(0, 3, 1, 2), codec)[..., : x.shape[2], : x.shape[3]]
        assert known.shape[2:] == x.shape[2:]
        return torch.cat([x * known, known], dim=1)

    def clamp_known(self, denoise: Denoise, image: Tensor) -> Denoise:
        """The denoiser with the known part of ``Cond.image`` in its estimates."""
        return _Clamped(denoise, image[:, :-1], image[:, -1:].bool())

    def preview(self, source: Tensor, size: Size) -> Tensor:
        """Holes are grey."""
        return torch.where(source[..., -1:] > 127, source[..., :-1], GREY)


@dataclass(frozen=True, eq=False)
class _Clamped:
    """A denoiser whose estimates hold x_known, (B, C, H, W), where `known`, (B, 1, H, W) bool."""

    denoise: Denoise
    x_known: Tensor
    known: Tensor

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        return Estimate.of_x(x_t, torch.where(self.known, self.x_known, self.denoise(x_t, t, to=to).x), t)

    def __repr__(self) -> str:
        return f"Clamped({self.denoise}, known={tuple(self.known.shape)})"


def _fill_unknown(images: Tensor, known: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8, unknown pixels with the mean of the known ones: encoders read across the border."""
    count = known.sum((1, 2), keepdim=True)
    mean = torch.where(count > 0, (images * known).sum((1, 2), keepdim=True) / count.clamp(min=1), GREY)
    return torch.where(known.bool(), images, mean.round().to(torch.uint8))


def _known_positions(known: Tensor, codec: Codec) -> Tensor:
    """Map of the positions of x without an unknown pixel, from (B, 1, H, W) of 0 and 1 for pixels."""
    return 1 - F.max_pool2d(1 - known, pixels_per_position(codec), ceil_mode=True)


def known_pixels(count: int, size: Size, generator: torch.Generator) -> Tensor:
    """Random maps of known pixels for `count` images, (count, H, W) bool.

    All kinds of holes are drawn for all images, so that their numbers do not depend on the kinds; the shapes, which
    cost far more, are made for the images that have them.
    """
    places = torch.stack(
        torch.meshgrid(*((torch.arange(side) + 0.5) / side for side in size), indexing="ij"), dim=-1
    )  # of pixels in [0, 1], (H, W, 2)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(count, *shape, generator=generator)

    box = uniform(0, 1, 2), uniform(0.1, 0.4, 2)
    plane = uniform(0, 2 * math.pi), uniform(-0.35, 0.35)
    frame = uniform(0.3, 0.7, 2), uniform(0.15, 0.45, 2)
    strokes = uniform(0, 1, STROKES, 2), uniform(0, 1, STROKES, 2), uniform(0.02, 0.08)
    pixels = uniform(0, 1, *size), uniform(0.3, 0.95)
    kind = torch.randint(5, (count,), generator=generator)
    first, second, third, fourth, fifth = (torch.nonzero(kind == number).squeeze(1) for number in range(5))
    known = torch.empty(count, *size, dtype=torch.bool)
    known[first] = ~_inside_box(places, *(numbers[first] for numbers in box))
    known[second] = _half_plane(places, *(numbers[second] for numbers in plane))
    known[third] = _inside_box(places, *(numbers[third] for numbers in frame))
    known[fourth] = ~_strokes(places, *(numbers[fourth] for numbers in strokes))
    known[fifth] = pixels[0][fifth] > pixels[1][fifth, None, None]
    return known


def _inside_box(places: Tensor, middle: Tensor, half: Tensor) -> Tensor:
    """Inside of an upright box: middle and half of its sides, (B, 2)."""
    return ((places - middle[:, None, None]).abs() < half[:, None, None]).all(-1)


def _half_plane(places: Tensor, angle: Tensor, offset: Tensor) -> Tensor:
    """One side of a line with this direction, at this distance from the middle, (B,)."""
    direction = torch.stack([angle.sin(), angle.cos()], dim=-1)[:, None, None]
    return ((places - 0.5) * direction).sum(-1) > offset[:, None, None]


def _strokes(places: Tensor, start: Tensor, end: Tensor, width: Tensor) -> Tensor:
    """Within `width` (B,) of any of the lines from start to end, (B, STROKES, 2)."""
    along = (end - start)[:, :, None, None]
    off = places - start[:, :, None, None]
    share = ((off * along).sum(-1) / along.square().sum(-1).clamp(min=1e-9)).clamp(0, 1)
    distance: Tensor = torch.linalg.vector_norm(off - share[..., None] * along, dim=-1)
    return (distance < width[:, None, None, None]).any(1)
