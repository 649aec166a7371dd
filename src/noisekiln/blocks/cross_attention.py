"""Cross-attention from the positions of an image to the tokens of a condition."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.group_norm import GroupNorm


class CrossAttention(nn.Module):
    """``x + out(softmax(q k^T) v)``, q from the image, k and v from the tokens; the identity at the start of training.

    One more token is learned and always there: it is what a position looks at that needs no word, and all that there
    is where a prompt is empty.

    Args:
        width: Channels of the image, a multiple of `head`.
        tokens: Size of a token.
        head: Channels of each head.
        group: Channels of each group of the norm.
    """

    def __init__(self, width: int, tokens: int, head: int = 32, group: int = 16) -> None:
        super().__init__()
        self.heads = width // head
        self.norm = GroupNorm(width // group, width)
        self.q = nn.Linear(width, width, bias=False)
        self.kv = nn.Linear(tokens, 2 * width, bias=False)
        self.no_word = nn.Parameter(torch.zeros(tokens))
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """The image with what its positions read from the tokens.

        Args:
            x: Features of the image, (B, width, H, W).
            tokens: (B, L, tokens).
            mask: True for the tokens that are used, (B, L) bool; None for all.

        Returns:
            (B, width, H, W).
        """
        b, c, h, w = x.shape
        tokens = torch.cat([self.no_word.to(tokens.dtype).expand(b, 1, -1), tokens], dim=1)
        allowed = None if mask is None else F.pad(mask, (1, 0), value=True)[:, None, None]
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        q = self.q(positions).view(b, h * w, self.heads, -1).transpose(1, 2)
        k, v = self.kv(tokens).view(b, tokens.shape[1], 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=allowed).transpose(1, 2).reshape(b, h * w, c)
        y: Tensor = x + self.out(mixed).view(b, h, w, c).permute(0, 3, 1, 2)
        return y
