"""Strided U-Net of the study notes: down by strided convolutions, for lessons."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.group_norm import GroupNorm
from noisekiln.blocks.shape import concat_condition_image, match_size
from noisekiln.conditions import Cond


class StridedUnet(Backbone):
    """Down by strided convolutions, up by transposed ones, time added after each block.

    Errors of the notes' listing are corrected: each up block gets the skip of its own resolution (the last one
    the input itself); time is in [0, 1] instead of raw steps up to 999; any size works.

    Args:
        channels: Channels of x.
        vector: Size of ``Cond.vector``, 0 for none.
        width: Channels of the first block; the notes have 64.
        time_width: Size of the time embedding; the notes have 256.
        image: Channels of ``Cond.image``, 0 for none.
    """

    static_graph: ClassVar[bool] = True
    default_size: ClassVar[str] = "m"  # the width of the notes
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "xs": {"width": 16}, "s": {"width": 32}, "m": {"width": 64}, "l": {"width": 96}, "xl": {"width": 128},
    }  # fmt: skip

    def __init__(self, channels: int, vector: int = 0, width: int = 64, time_width: int = 256, image: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.vector = vector
        self.width = width
        self.time_width = time_width
        self.image = image
        self.embed_time = nn.Sequential(nn.Linear(1, time_width), nn.SiLU(), nn.Linear(time_width, time_width))
        self.embed_vector = nn.Linear(vector, time_width) if vector else None
        widths = [width, 2 * width, 4 * width]
        self.down = nn.ModuleList(
            _Down(in_channels, out_channels, time_width)
            for in_channels, out_channels in zip([channels + image, *widths], widths, strict=False)
        )
        self.middle = _convolutions(widths[2], widths[2])
        skips = [widths[1], widths[0], channels + image]
        self.up = nn.ModuleList(
            _Up(in_channels, skip, out_channels, time_width)
            for in_channels, skip, out_channels in zip(
                widths[::-1], skips, [widths[1], widths[0], widths[0]], strict=True
            )
        )
        self.last = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        time = self.embed_time(noise[:, None])
        if self.embed_vector is not None and cond.vector is not None:
            time = time + self.embed_vector(cond.vector)
        skips = [concat_condition_image(x, cond.image, self.image)]
        for down in self.down:
            skips.append(down(skips[-1], time))
        x = self.middle(skips.pop())
        for up in self.up:
            x = up(x, skips.pop(), time)
        y: Tensor = self.last(x)
        return y


class _Down(nn.Module):
    def __init__(self, in_channels: int, out_channels: int, time_width: int) -> None:
        super().__init__()
        self.time = nn.Linear(time_width, out_channels)
        self.convolve = _convolutions(in_channels, out_channels)
        self.halve = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        halved: Tensor = self.halve(self.convolve(x) + self.time(time)[:, :, None, None])
        return halved


class _Up(nn.Module):
    def __init__(self, in_channels: int, skip: int, out_channels: int, time_width: int) -> None:
        super().__init__()
        self.time = nn.Linear(time_width, out_channels)
        self.enlarge = nn.ConvTranspose2d(in_channels, in_channels, 2, stride=2)
        self.convolve = _convolutions(in_channels + skip, out_channels)

    def forward(self, x: Tensor, skip: Tensor, time: Tensor) -> Tensor:
        x = torch.cat([match_size(self.enlarge(x), skip), skip], dim=1)
        y: Tensor = self.convolve(x) + self.time(time)[:, :, None, None]
        return y


def _convolutions(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, padding=1),
        GroupNorm(8, out_channels),
        nn.SiLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        GroupNorm(8, out_channels),
        nn.SiLU(),
    )
