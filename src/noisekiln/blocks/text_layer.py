"""Layer of a text encoder: self-attention of words and a gated feed-forward layer."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.rotary import rotary_angles
from noisekiln.blocks.transformer_block import GatedFeedForward, RotaryAttention


class TextLayer(nn.Module):
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``; the identity at the start of training.

    Args:
        width: Features of each word, a multiple of 4; heads have 32, or 4 where the width is no multiple of 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"width={width}: attention needs a multiple of 4, such as 128. Give one, or no layers.")
        self.head = 32 if width % 32 == 0 else 4
        self.attention = RotaryAttention(width, self.head)
        self.feed_forward = GatedFeedForward(width)
        for layer in (self.attention.out, self.feed_forward.out):
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """The words, each with what it reads from the others.

        Args:
            x: (B, L, width); zero where there is no word.
            mask: True for words, (B, L) bool.

        Returns:
            (B, L, width); zero where there is no word.
        """
        angles = rotary_angles(1, x.shape[1], self.head, x.device)
        first = torch.arange(x.shape[1], device=x.device) == 0  # an empty prompt has to attend to something
        x = x + self.attention(_norm(x), (angles.cos(), angles.sin()), mask | first)
        y: Tensor = (x + self.feed_forward(_norm(x))) * mask[..., None]
        return y


def _norm(x: Tensor) -> Tensor:
    return F.rms_norm(x, (x.shape[-1],), eps=1e-6)
