"""Self-attention over the positions of an image."""

from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.group_norm import GroupNorm


class Attention(nn.Module):
    """``x + out(softmax(q k^T) v)``; the identity at the start of training.

    Args:
        width: Channels, a multiple of `head`.
        head: Channels of each head.
        group: Channels of each group of the norm.
    """

    def __init__(self, width: int, head: int = 32, group: int = 16) -> None:
        super().__init__()
        self.heads = width // head
        self.norm = GroupNorm(width // group, width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same."""
        b, c, h, w = x.shape
        positions = self.norm(x).permute(0, 2, 3, 1).reshape(b, h * w, c)
        # Each (B, heads, H W, head).
        q, k, v = self.qkv(positions).view(b, h * w, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        y: Tensor = x + self.out(mixed).view(b, h, w, c).permute(0, 3, 1, 2)
        return y
