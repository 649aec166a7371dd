"""Diffusion transformer on patches, with words as further tokens."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.fourier import Fourier
from noisekiln.blocks.rotary import rotary_angles
from noisekiln.blocks.shape import concat_condition_image, depth_to_space, match_size, pad_to_multiple, space_to_depth
from noisekiln.blocks.transformer_block import TransformerBlock, modulated
from noisekiln.components.limits import MOST_BLOCKS, check_at_most
from noisekiln.conditions import Cond


class Dit(Backbone):
    """A transformer over patches of `patch` x `patch` pixels (Peebles & Xie 2023), for latents and for long training.

    Noise label and ``Cond.vector`` modulate every block; ``Cond.tokens`` stand beside the patches. Positions are
    rotary, so any height and width work: x is padded to a multiple of the patch, and the output is cropped.

    Args:
        channels: Channels of x.
        vector: Size of ``Cond.vector``, 0 for none.
        tokens: Size of the vectors of ``Cond.tokens``, 0 for none.
        width: Features of each patch, a multiple of `head`.
        depth: Number of blocks.
        patch: Side of the square that becomes one position.
        head: Features of each head of attention, a multiple of 4.
        condition: Size of the vector that noise label and ``Cond.vector`` are mixed into.
        early_exit: Whether the blocks of the first half predict the output too, by one more layer: the weaker estimate
            of `internal` guidance.
        image: Channels of ``Cond.image``, 0 for none.
    """

    static_graph: ClassVar[bool] = True
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "xs": {"width": 128, "depth": 4, "condition": 64},
        "s": {"width": 192, "depth": 6, "condition": 128},
        "m": {"width": 256, "depth": 10, "condition": 128},
        "l": {"width": 384, "depth": 12, "condition": 256},
        "xl": {"width": 768, "depth": 12, "condition": 512},
    }

    def __init__(
        self,
        channels: int,
        vector: int = 0,
        tokens: int = 0,
        width: int = 192,
        depth: int = 6,
        patch: int = 2,
        head: int = 64,
        condition: int = 128,
        early_exit: bool = False,
        image: int = 0,
    ) -> None:
        super().__init__()
        if head < 4 or head % 4 or width < head or width % head:
            raise ValueError(
                f"dit(width={width}, head={head}): the width has to be a multiple of `head`, and `head` a multiple of "
                f"4. Use dit(width={max(width // 64, 1) * 64}, head=64)."
            )
        if patch < 1 or depth < 1:
            raise ValueError(f"dit(depth={depth}, patch={patch}): both have to be 1 or more.")
        check_at_most("depth", depth, MOST_BLOCKS)
        self.channels = channels
        self.vector = vector
        self.tokens = tokens
        self.width = width
        self.depth = depth
        self.patch = patch
        self.head = head
        self.condition = condition
        self.early_exit = early_exit
        self.exits = 2 if early_exit else 1
        self.image = image
        self.embed_noise = nn.Sequential(Fourier(64), nn.Linear(64, condition))
        self.embed_vector = nn.Linear(vector, condition) if vector else None
        self.embed_mix = nn.Linear(condition, condition)
        self.embed_tokens = nn.Linear(tokens, width) if tokens else None
        self.embed_patches = nn.Linear((channels + image) * patch**2, width)
        self.layers = nn.ModuleList(TransformerBlock(width, condition, head) for _ in range(depth))
        self.modulate = nn.Linear(condition, 2 * width)
        self.out = nn.Linear(width, channels * patch**2)
        self.exit = nn.Linear(width, channels * patch**2) if early_exit else None
        for layer in filter(None, (self.modulate, self.out, self.exit)):
            for parameter in layer.parameters():
                nn.init.zeros_(parameter)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        embedding = self.embed_noise(noise)
        if self.embed_vector is not None and cond.vector is not None:
            embedding = embedding + self.embed_vector(cond.vector)
        embedding = F.silu(self.embed_mix(F.silu(embedding)))
        joined = concat_condition_image(x, cond.image, self.image)
        patches = space_to_depth(pad_to_multiple(joined, self.patch), self.patch)
        rows, columns = patches.shape[2:]
        h = self.embed_patches(patches.permute(0, 2, 3, 1).flatten(1, 2))
        h, angles, mask = self._with_tokens(h, rotary_angles(rows, columns, self.head, x.device), cond)
        rotation = (angles.cos(), angles.sin())
        half = (self.depth + 1) // 2
        for layer in self.layers[:half]:
            h = layer(h, embedding, rotation, mask)
        halfway = h
        for layer in self.layers[half:]:
            h = layer(h, embedding, rotation, mask)
        scale, shift = self.modulate(embedding)[:, None].chunk(2, dim=2)
        y = self._as_image(self.out(modulated(h[:, : rows * columns], scale, shift)), rows, columns)
        if self.exit is not None:
            early = self.exit(F.rms_norm(halfway[:, : rows * columns], (self.width,), eps=1e-6))
            y = torch.cat([y, self._as_image(early, rows, columns)], dim=1)
        return match_size(y, x)

    def _as_image(self, patches: Tensor, rows: int, columns: int) -> Tensor:
        """(B, rows * columns, C * patch^2) as (B, C, H, W)."""
        grid = patches.view(len(patches), rows, columns, -1).permute(0, 3, 1, 2)
        return depth_to_space(grid, self.patch)

    def _with_tokens(self, h: Tensor, angles: Tensor, cond: Cond) -> tuple[Tensor, Tensor, Tensor | None]:
        """Patches followed by words, which are not turned; the mask leaves out words that are not used."""
        if self.embed_tokens is None or cond.tokens is None:
            return h, angles, None
        # Tokens of different encoders differ in length by orders of magnitude.
        words = self.embed_tokens(F.rms_norm(cond.tokens, (self.tokens,), eps=1e-6)).to(h.dtype)
        mask = None
        if cond.mask is not None:
            mask = torch.cat([cond.mask.new_ones(h.shape[:2]), cond.mask], dim=1)
        return torch.cat([h, words], dim=1), F.pad(angles, (0, 0, 0, words.shape[1])), mask

    @classmethod
    def sized(cls, name: str, size: tuple[int, int], *, latents: bool = False) -> dict[str, Any]:
        """Patches of 1, 2, 4, ... pixels: the smallest with which x has at most 16 x 16 of them."""
        patch = 1
        while max(size) > 16 * patch:
            patch *= 2
        return {**cls.sizes[name], "patch": patch}

    def edges(self) -> list[nn.Module]:
        """The layers that read patches and write them."""
        return [self.embed_patches, self.out, *filter(None, [self.exit])]
