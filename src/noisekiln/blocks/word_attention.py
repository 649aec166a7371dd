"""Self-attention of the words of a prompt."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.rotary import rotary_angles
from noisekiln.blocks.transformer_block import RotaryAttention


class WordAttention(nn.Module):
    """``x + attention(norm(x))``; the identity at the start of training.

    Without a feed-forward layer, which would cost twice as much: for small networks a large part of a step.

    Args:
        width: Features of each word, a multiple of 4; heads have 32, or 4 where it is no multiple of 32.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"width={width}: attention needs a multiple of 4, such as 128. Give one, or no layers.")
        self.head = 32 if width % 32 == 0 else 4
        self.attention = RotaryAttention(width, self.head)
        nn.init.zeros_(self.attention.out.weight)

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
        normed = F.rms_norm(x, (x.shape[-1],), eps=1e-6)
        y: Tensor = x + self.attention(normed, (angles.cos(), angles.sin()), mask | first) * mask[..., None]
        return y
