"""Block of a transformer: self-attention and a gated feed-forward layer, both modulated by an embedding."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.rotary import rotate


class TransformerBlock(nn.Module):
    """``x + gate attention(modulate(norm(x)))``, then ``x + gate feed_forward(modulate(norm(x)))``.

    The identity at the start of training, as gates are zero (adaLN-zero, Peebles & Xie 2023, section 3.2). Norms are
    those by root mean square, also of queries and keys, which keeps attention stable at high learning rates.

    Args:
        width: Features of each position, a multiple of `head`.
        embedding: Size of the embedding vector.
        head: Features of each head, a multiple of 4.
    """

    def __init__(self, width: int, embedding: int, head: int) -> None:
        super().__init__()
        self.modulate = nn.Linear(embedding, 6 * width)
        for parameter in self.modulate.parameters():
            nn.init.zeros_(parameter)
        self.attention = RotaryAttention(width, head)
        self.feed_forward = GatedFeedForward(width)

    def forward(
        self, x: Tensor, embedding: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None = None
    ) -> Tensor:
        """The block's output.

        Args:
            x: Features of each position, (B, positions, width).
            embedding: (B, embedding).
            rotation: Cosines and sines of `rotary_angles`, (positions, head / 2) each.
            mask: True for positions that may be attended to, (B, positions); None for all.

        Returns:
            (B, positions, width).
        """
        scale1, shift1, gate1, scale2, shift2, gate2 = self.modulate(embedding)[:, None].chunk(6, dim=2)
        x = x + gate1 * self.attention(modulated(x, scale1, shift1), rotation, mask)
        y: Tensor = x + gate2 * self.feed_forward(modulated(x, scale2, shift2))
        return y


class RotaryAttention(nn.Module):
    """Self-attention with normalised queries and keys, turned by their positions; arguments of `TransformerBlock`."""

    def __init__(self, width: int, head: int) -> None:
        super().__init__()
        self.head = head
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.norm_q = nn.Parameter(torch.ones(head))
        self.norm_k = nn.Parameter(torch.ones(head))
        self.out = nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor, rotation: tuple[Tensor, Tensor], mask: Tensor | None) -> Tensor:
        """(B, positions, width) -> the same; `rotation` and `mask` as for `TransformerBlock`."""
        b, positions, width = x.shape
        # Each (B, heads, positions, head).
        q, k, v = self.qkv(x).view(b, positions, 3, width // self.head, self.head).permute(2, 0, 3, 1, 4)
        q, k = (
            rotate(F.rms_norm(part, (self.head,), eps=1e-6) * weight.to(part.dtype), *rotation).to(v.dtype)
            for part, weight in ((q, self.norm_q), (k, self.norm_k))
        )
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=None if mask is None else mask[:, None, None])
        y: Tensor = self.out(mixed.transpose(1, 2).reshape(b, positions, width))
        return y


class GatedFeedForward(nn.Module):
    """``out(silu(gate(x)) inner(x))`` (SwiGLU, Shazeer 2020), as costly as an ordinary layer of four times the width.

    Args:
        width: Features of each position.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = -(-8 * width // 3 // 32) * 32  # two thirds of four times the width, rounded up for fast products
        self.gate = nn.Linear(width, inner, bias=False)
        self.inner = nn.Linear(width, inner, bias=False)
        self.out = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """(..., width) -> the same."""
        y: Tensor = self.out(F.silu(self.gate(x)) * self.inner(x))
        return y


def modulated(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """``norm(x) (1 + scale) + shift``, with the norm by the root mean square of each position."""
    return torch.addcmul(shift, F.rms_norm(x, (x.shape[-1],), eps=1e-6), scale + 1)
