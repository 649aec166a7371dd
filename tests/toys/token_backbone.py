"""A backbone that reads tokens by cross-attention, and both levels of a step."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import Cond


class TokenNet(Backbone):
    """Convolutions, with one cross-attention to the words in the middle.

    Args:
        channels: Channels of x.
        tokens: Size of a token.
        width: Channels inside.
    """

    reads_target: ClassVar[bool] = True
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"s": {"width": 8}, "m": {"width": 16}}

    def __init__(self, channels: int, tokens: int = 0, width: int = 16) -> None:
        super().__init__()
        self.channels = channels
        self.tokens = tokens
        self.width = width
        self.enter = nn.Conv2d(channels, width, 3, padding=1)
        self.noise = nn.Linear(2, width)
        self.keys = nn.Linear(tokens, 2 * width) if tokens else None
        self.leave = nn.Conv2d(width, channels, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        assert noise.shape == (len(x), 2)
        h = self.enter(x) + self.noise(noise)[:, :, None, None]
        if self.keys is not None and cond.tokens is not None:
            key, value = self.keys(cond.tokens).chunk(2, dim=-1)
            mask = None if cond.mask is None else (cond.mask | ~cond.mask.any(1, keepdim=True))[:, None]
            places = h.flatten(2).transpose(1, 2)
            mixed = F.scaled_dot_product_attention(places, key, value, attn_mask=mask)
            h = h + mixed.transpose(1, 2).view_as(h)
        y: Tensor = self.leave(torch.tanh(h))
        return y
