"""The U-Net of denoising_diffusion_pytorch (lucidrains), as `noisekiln import` keeps it: written anew, for its weights.

Layers have that package's names, so that a checkpoint fits. What its arguments were is read from the checkpoint.
"""

from collections.abc import Callable
from itertools import pairwise
from math import log
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import Cond

MEMORIES = 4  # learned keys and values of an attention


class LucidrainsUnet(Backbone):
    """``network(x, step)``, where the noise label is the number of the step, from 0, which may lie between two.

    Heights and widths are multiples of ``2 ** (len(widths) - 2)``.

    Args:
        channels: Channels of x.
        width: Channels of the embedding of the step; a quarter of its hidden layer.
        widths: Channels of the first layer, and of each level behind it.
        heads: Heads of the attention of each level.
        head: Channels of a head of each level.
        whole: For each level, whether its attention is that of softmax among all positions, and not a linear one.
    """

    def __init__(
        self,
        channels: int,
        width: int = 64,
        widths: tuple[int, ...] = (64, 64, 128, 256, 512),
        heads: tuple[int, ...] = (4, 4, 4, 4),
        head: tuple[int, ...] = (32, 32, 32, 32),
        whole: tuple[bool, ...] = (False, False, False, True),
    ) -> None:
        super().__init__()
        self.channels = channels
        self.width, self.widths = width, widths
        self.heads, self.head = heads, head
        self.whole = whole
        first, last, step = widths[0], widths[-1], 4 * width
        self.init_conv = nn.Conv2d(channels, first, 7, padding=3)
        self.time_mlp = nn.Sequential(nn.Identity(), nn.Linear(width, step), nn.GELU(), nn.Linear(step, step))
        levels = list(zip(pairwise(widths), heads, head, whole, strict=True))
        self.downs, self.ups = nn.ModuleList(), nn.ModuleList()
        for number, ((fine, coarse), heads_here, head_here, softmax) in enumerate(levels, 1):
            smaller = nn.Conv2d(fine, coarse, 3, padding=1) if number == len(levels) else _Smaller(fine, coarse)
            attention = _Attention(fine, heads_here, head_here, softmax)
            self.downs.append(nn.ModuleList([_Block(fine, fine, step), _Block(fine, fine, step), attention, smaller]))
        self.mid_block1, self.mid_block2 = _Block(last, last, step), _Block(last, last, step)
        self.mid_attn = _Attention(last, heads[-1], head[-1], True)
        for number, ((fine, coarse), heads_here, head_here, softmax) in enumerate(levels[::-1], 1):
            smooth, both = nn.Conv2d(coarse, fine, 3, padding=1), fine + coarse
            larger = smooth if number == len(levels) else _Larger(smooth)
            attention = _Attention(coarse, heads_here, head_here, softmax)
            self.ups.append(nn.ModuleList([_Block(both, coarse, step), _Block(both, coarse, step), attention, larger]))
        self.final_res_block = _Block(2 * first, first, step)
        self.final_conv = nn.Conv2d(first, channels, 1)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        step = self.time_mlp(_step_embedding(noise, self.width))
        h = first = self.init_conv(x)
        kept: list[Tensor] = []
        for level in self.downs:
            before, after, attention, smaller = cast(nn.ModuleList, level)
            h = before(h, step)
            kept.append(h)
            h = attention(after(h, step))
            kept.append(h)
            h = smaller(h)
        h = self.mid_block2(self.mid_attn(self.mid_block1(h, step)), step)
        for level in self.ups:
            before, after, attention, larger = cast(nn.ModuleList, level)
            h = before(torch.cat([h, kept.pop()], 1), step)
            h = larger(attention(after(torch.cat([h, kept.pop()], 1), step)))
        y: Tensor = self.final_conv(self.final_res_block(torch.cat([h, first], 1), step))
        return y


class _Norm(nn.Module):
    """Divides the channels of each position by their root mean square."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = F.normalize(x, dim=1) * self.g * x.shape[1] ** 0.5
        return y


class _Half(nn.Module):
    """Convolution, norm, modulation and SiLU."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__()
        self.proj, self.norm = nn.Conv2d(width, out, 3, padding=1), _Norm(out)

    def forward(self, x: Tensor, change: Callable[[Tensor], Tensor] = lambda h: h) -> Tensor:
        return F.silu(change(self.norm(self.proj(x))))


class _Block(nn.Module):
    """Two convolutions, the first of which the step modulates, beside a connection that skips them."""

    def __init__(self, width: int, out: int, step: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.SiLU(), nn.Linear(step, 2 * out))
        self.block1, self.block2 = _Half(width, out), _Half(out, out)
        self.res_conv = nn.Identity() if width == out else nn.Conv2d(width, out, 1)

    def forward(self, x: Tensor, step: Tensor) -> Tensor:
        scale, shift = self.mlp(step)[:, :, None, None].chunk(2, dim=1)
        y: Tensor = self.block2(self.block1(x, lambda h: h * (1 + scale) + shift)) + self.res_conv(x)
        return y


class _Attention(nn.Module):
    """Attention among positions and some learned ones, added to x: of softmax, or linear (Shen et al. 2018)."""

    def __init__(self, width: int, heads: int, head: int, whole: bool) -> None:
        super().__init__()
        self.heads, self.whole = heads, whole
        self.norm = _Norm(width)
        self.mem_kv = nn.Parameter(torch.randn(2, heads, *((MEMORIES, head) if whole else (head, MEMORIES))))
        self.to_qkv = nn.Conv2d(width, 3 * heads * head, 1, bias=False)
        out = nn.Conv2d(heads * head, width, 1)
        self.to_out = out if whole else nn.Sequential(out, _Norm(width))

    def forward(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        q, k, v = self.to_qkv(self.norm(x)).view(b, 3, self.heads, -1, height * width).unbind(1)  # (b, heads, head, n)
        memories = self.mem_kv.transpose(-1, -2) if self.whole else self.mem_kv
        k, v = (torch.cat([own.expand(b, -1, -1, -1), each], -1) for own, each in zip(memories, (k, v), strict=True))
        if self.whole:
            q, k, v = (each.transpose(-1, -2) for each in (q, k, v))
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(-1, -2)
        else:
            mixed = v @ k.softmax(-1).transpose(-1, -2) @ (q.softmax(-2) * q.shape[-2] ** -0.5)
        y: Tensor = x + self.to_out(mixed.reshape(b, -1, height, width))
        return y


class _Smaller(nn.Sequential):
    """Squares of two by two pixels become channels, then fewer."""

    def __init__(self, width: int, out: int) -> None:
        super().__init__(nn.PixelUnshuffle(2), nn.Conv2d(4 * width, out, 1))


class _Larger(nn.Sequential):
    """Pixels are repeated, then smoothed by a convolution."""

    def __init__(self, smooth: nn.Conv2d) -> None:
        super().__init__(nn.Upsample(scale_factor=2, mode="nearest"), smooth)


def _step_embedding(step: Tensor, width: int) -> Tensor:
    """Sines and cosines of a step at falling frequencies, (B, width)."""
    half = width // 2
    frequencies = torch.exp(torch.arange(half, device=step.device) * (-log(10_000) / (half - 1)))
    angles = step[:, None].float() * frequencies
    return torch.cat([angles.sin(), angles.cos()], dim=-1)
