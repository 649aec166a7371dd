"""The default: a U-Net for small images and small computers."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.attention import Attention
from noisekiln.blocks.fourier import Fourier
from noisekiln.blocks.residual import Residual
from noisekiln.blocks.shape import fold, join, match_size, pad_to_multiple, unfold
from noisekiln.conditions import Cond


class Unet(Backbone):
    """A U-Net that works on squares of `patch` x `patch` pixels and spends its time in 3x3 convolutions.

    A level has half the resolution of the one above; blocks stand on the way down and again on the way up, those of
    the lowest level once. Any height, width and number of channels work: what does not divide is padded, then cut.

    Args:
        channels: Of the images.
        vector: Size of ``Cond.vector``, 0 for none.
        widths: Channels at each level, multiples of 32.
        blocks: Residual blocks at each level.
        patch: Side of the square that becomes one pixel of the first level.
        attention: Levels whose blocks are followed by self-attention.
        condition: Size of the vector that noise label and ``Cond.vector`` are mixed into.
        image: Channels of ``Cond.image``, 0 for none.
    """

    def __init__(
        self,
        channels: int,
        vector: int = 0,
        widths: tuple[int, ...] = (64, 128),
        blocks: tuple[int, ...] = (2, 4),
        patch: int = 2,
        attention: tuple[int, ...] = (),
        condition: int = 128,
        image: int = 0,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks) or any(width % 32 for width in widths) or not widths:
            raise ValueError(
                f"unet(widths={widths}, blocks={blocks}): every level needs a width that is a multiple of 32, "
                "and a number of blocks. Give two tuples of the same length."
            )
        if patch < 1 or min(blocks) < 1 or not set(attention) <= set(range(len(widths))):
            raise ValueError(
                f"unet(blocks={blocks}, patch={patch}, attention={attention}): every level needs a block, a patch "
                f"a side of 1 or more, and attention a level of 0 to {len(widths) - 1}. Change what is out of range."
            )
        self.channels, self.vector, self.widths, self.blocks = channels, vector, widths, blocks
        self.patch, self.attention, self.condition, self.image = patch, attention, condition, image
        self.noise = nn.Sequential(Fourier(64), nn.Linear(64, condition))
        self.wish = nn.Linear(vector, condition) if vector else None
        self.mix = nn.Linear(condition, condition)
        self.enter = nn.Conv2d((channels + image) * patch**2, widths[0], 3, padding=1)
        upper = range(len(widths) - 1)
        self.down = nn.ModuleList(self._stage(level) for level in upper)
        self.shrink = nn.ModuleList(nn.Conv2d(4 * widths[i], widths[i + 1], 1, bias=False) for i in upper)
        self.middle = self._stage(len(widths) - 1)
        self.grow = nn.ModuleList(nn.Conv2d(widths[i + 1], 4 * widths[i], 1, bias=False) for i in upper)
        self.merge = nn.ModuleList(nn.Conv2d(2 * widths[i], widths[i], 1, bias=False) for i in upper)
        self.up = nn.ModuleList(self._stage(level) for level in upper)
        self.norm = nn.GroupNorm(widths[0] // 16, widths[0])
        self.leave = nn.Conv2d(widths[0], channels * patch**2, 3, padding=1)
        for parameter in self.leave.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        told = self.noise(noise)
        if self.wish is not None and cond.vector is not None:
            told = told + self.wish(cond.vector)
        told = F.silu(self.mix(F.silu(told)))
        seen = join(x, cond.image, self.image)
        h = self.enter(fold(pad_to_multiple(seen, self.patch * 2 ** (len(self.widths) - 1)), self.patch))
        skips = []
        for stage, shrink in zip(self.down, self.shrink, strict=True):
            skips.append(stage(h, told))
            h = shrink(fold(skips[-1]))
        h = self.middle(h, told)
        for stage, grow, merge in zip(self.up[::-1], self.grow[::-1], self.merge[::-1], strict=True):
            h = stage(merge(torch.cat([unfold(grow(h)), skips.pop()], dim=1)), told)
        y = unfold(self.leave(F.silu(self.norm(h))), self.patch)
        return match_size(y, x)

    def _stage(self, level: int) -> "_Stage":
        return _Stage(self.widths[level], self.blocks[level], self.condition, level in self.attention)


class _Stage(nn.Module):
    """Some residual blocks, each with attention after it or not."""

    def __init__(self, width: int, blocks: int, condition: int, attention: bool) -> None:
        super().__init__()
        self.residual = nn.ModuleList(Residual(width, condition) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(width) if attention else nn.Identity() for _ in range(blocks))

    def forward(self, x: Tensor, told: Tensor) -> Tensor:
        for residual, attention in zip(self.residual, self.attention, strict=True):
            x = attention(residual(x, told))
        return x
