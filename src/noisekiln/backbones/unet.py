"""U-Net with patches, for small images and small computers: the default."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import zip_longest
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.attention import Attention
from noisekiln.blocks.cross_attention import CrossAttention
from noisekiln.blocks.fourier import Fourier
from noisekiln.blocks.group_norm import GroupNorm
from noisekiln.blocks.residual import Residual
from noisekiln.blocks.shape import concat_condition_image, depth_to_space, match_size, pad_to_multiple, space_to_depth
from noisekiln.components.limits import MOST_BLOCKS, check_at_most
from noisekiln.conditions import Cond


class Unet(Backbone):
    """A U-Net that works on squares of `patch` x `patch` pixels and spends most of its time in 3x3 convolutions.

    A level has half the resolution of the one above; its blocks run on the way down and again on the way up, those of
    the lowest level once. Any height, width and number of channels work: x is padded to a multiple of the patch, and
    the output is cropped.

    Args:
        channels: Channels of x.
        vector: Size of ``Cond.vector``, 0 for none.
        widths: Channels at each level, multiples of 32.
        blocks: Residual blocks at each level.
        patch: Side of the square that becomes one pixel of the first level.
        attention: Levels whose blocks are followed by self-attention; -1 is the lowest.
        condition: Size of the vector that noise label and ``Cond.vector`` are mixed into.
        early_exit: Whether the lowest level predicts the output too, by one more layer: the weaker estimate of
            `internal` guidance.
        image: Channels of ``Cond.image``, 0 for none.
        tokens: Size of the vectors of ``Cond.tokens``, which the blocks of the lowest level attend to; 0 for none.
    """

    static_graph: ClassVar[bool] = True
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {  # for x of 28 to 32 pixels a side; see `sized`
        "xs": {"widths": (32, 64), "blocks": (1, 2), "condition": 64},
        "s": {"widths": (64, 96), "blocks": (1, 2), "condition": 128},
        "m": {"widths": (64, 128), "blocks": (2, 4), "condition": 128},
        "l": {"widths": (96, 192), "blocks": (3, 6), "condition": 256},
        "xl": {"widths": (192, 384), "blocks": (4, 8), "condition": 512},
    }

    def __init__(
        self,
        channels: int,
        vector: int = 0,
        widths: tuple[int, ...] = (64, 128),
        blocks: tuple[int, ...] = (2, 4),
        patch: int = 2,
        attention: tuple[int, ...] = (),
        condition: int = 128,
        early_exit: bool = False,
        image: int = 0,
        tokens: int = 0,
    ) -> None:
        super().__init__()
        _check_levels(widths, blocks, patch, attention)
        check_at_most("blocks", sum(blocks), MOST_BLOCKS)
        self.channels = channels
        self.vector = vector
        self.widths = widths
        self.blocks = blocks
        self.patch = patch
        self.attention = attention
        self.condition = condition
        self.early_exit, self.exits = early_exit, 2 if early_exit else 1
        self.image = image
        self.tokens = tokens
        self.embed_noise = nn.Sequential(Fourier(64), nn.Linear(64, condition))
        self.embed_vector = nn.Linear(vector, condition) if vector else None
        self.embed_mix = nn.Linear(condition, condition)
        self.conv_in = nn.Conv2d((channels + image) * patch**2, widths[0], 3, padding=1)
        upper = range(len(widths) - 1)
        self.down = nn.ModuleList(self._stage(level) for level in upper)
        self.downsample = nn.ModuleList(nn.Conv2d(4 * widths[i], widths[i + 1], 1, bias=False) for i in upper)
        self.middle = self._stage(len(widths) - 1)
        self.upsample = nn.ModuleList(nn.Conv2d(widths[i + 1], 4 * widths[i], 1, bias=False) for i in upper)
        self.merge = nn.ModuleList(nn.Conv2d(2 * widths[i], widths[i], 1, bias=False) for i in upper)
        self.up = nn.ModuleList(self._stage(level) for level in upper)
        self.norm = GroupNorm(widths[0] // 16, widths[0])
        self.conv_out = _zeroed(nn.Conv2d(widths[0], channels * patch**2, 3, padding=1))
        self._zoom = patch * 2 ** (len(widths) - 1)  # pixels of a side of a position at the lowest level
        self.exit = _zeroed(nn.Conv2d(widths[-1], channels * self._zoom**2, 1)) if early_exit else None
        self.read_tokens = nn.ModuleList(CrossAttention(widths[-1], tokens) for _ in range(blocks[-1] if tokens else 0))

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        embedding = self.embed_noise(noise)
        if self.embed_vector is not None and cond.vector is not None:
            embedding = embedding + self.embed_vector(cond.vector)
        embedding = F.silu(self.embed_mix(F.silu(embedding)))
        joined = concat_condition_image(x, cond.image, self.image)
        h = self.conv_in(space_to_depth(pad_to_multiple(joined, self._zoom), self.patch))
        skips = []
        for stage, downsample in zip(self.down, self.downsample, strict=True):
            skips.append(stage(h, embedding))
            h = downsample(space_to_depth(skips[-1]))
        h = middle = self.middle(h, embedding, self._readers(cond))
        for stage, upsample, merge in zip(self.up[::-1], self.upsample[::-1], self.merge[::-1], strict=True):
            h = stage(merge(torch.cat([depth_to_space(upsample(h)), skips.pop()], dim=1)), embedding)
        y = depth_to_space(self.conv_out(F.silu(self.norm(h))), self.patch)
        if self.exit is not None:
            y = torch.cat([y, depth_to_space(self.exit(middle), self._zoom)], dim=1)
        return match_size(y, x)

    @classmethod
    def sized(cls, name: str, size: tuple[int, int], *, latents: bool = False) -> dict[str, Any]:
        """Patches of 2 pixels, or of 1 where x is small; levels are added until the lowest has at most 12 positions.

        Small is below 12 positions, or below 24 for latents, each of which tells more than a pixel.
        """
        settings, side = cls.sizes[name], max(size)
        patch = 1 if side < (24 if latents else 12) else 2
        widths, blocks = list(settings["widths"]), list(settings["blocks"])
        while side / patch / 2 ** (len(widths) - 1) > 12:
            widths.append(widths[-1] if len(widths) > 2 else 2 * widths[-1])
            blocks.insert(1, blocks[0])
        return {**settings, "widths": tuple(widths), "blocks": tuple(blocks), "patch": patch}

    def edges(self) -> list[nn.Module]:
        """The layers that read x, and write the output and that of the early exit."""
        return [self.conv_in, self.conv_out, *filter(None, [self.exit])]

    def _readers(self, cond: Cond) -> list[Callable[[Tensor], Tensor]]:
        """What follows each block of the lowest level: its attention to the tokens, if there are any."""
        if cond.tokens is None:
            return []
        return [partial(read, tokens=cond.tokens, mask=cond.mask) for read in self.read_tokens]

    def _stage(self, level: int) -> "_Stage":
        attends = not {level, level - len(self.widths)}.isdisjoint(self.attention)
        return _Stage(self.widths[level], self.blocks[level], self.condition, attends)


def _check_levels(widths: Sequence[int], blocks: Sequence[int], patch: int, attention: Sequence[int]) -> None:
    """Raise ValueError for levels that no network can have."""
    if len(widths) != len(blocks) or any(width % 32 or width < 32 for width in widths) or not widths:
        raise ValueError(
            f"unet(widths={widths}, blocks={blocks}): every level needs a width that is a multiple of 32, "
            "and a number of blocks. Give two tuples of the same length."
        )
    if patch < 1 or min(blocks) < 1 or not set(attention) <= set(range(-len(widths), len(widths))):
        raise ValueError(
            f"unet(blocks={blocks}, patch={patch}, attention={attention}): `patch` must be 1 or more, every "
            f"level needs at least 1 block, and `attention` may name levels 0 to {len(widths) - 1}, -1 for the lowest."
        )


def _zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A last layer, with which training begins at an output of 0."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class _Stage(nn.Module):
    """Residual blocks, each followed by self-attention and by attention to tokens, or not."""

    def __init__(self, width: int, blocks: int, embedding: int, attention: bool) -> None:
        super().__init__()
        self.residual = nn.ModuleList(Residual(width, embedding) for _ in range(blocks))
        self.attention = nn.ModuleList(Attention(width) if attention else nn.Identity() for _ in range(blocks))

    def forward(self, x: Tensor, embedding: Tensor, readers: Sequence[Callable[[Tensor], Tensor]] = ()) -> Tensor:
        for residual, attention, read in zip_longest(self.residual, self.attention, readers):
            x = attention(residual(x, embedding))
            x = x if read is None else read(x)
        return x
