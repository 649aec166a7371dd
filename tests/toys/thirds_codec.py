"""A codec with a weight that divides the resolution by three: each square of nine pixels becomes channels of x."""

from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.codecs.base import Codec, Size


class Thirds(Codec):
    """``x = space_to_depth((image / 255 - mean) / std)``.

    Args:
        channels: Channels of images.
        costly: Whether to be treated as a codec that should encode each image once.
    """

    def __init__(self, channels: int = 3, costly: bool = False) -> None:
        super().__init__()
        self.channels, self.costly = channels, costly
        self.mean = nn.Parameter(torch.tensor(0.5))
        self.register_buffer("std", torch.tensor(0.25))

    def fit(self, pixels: Tensor) -> Self:
        fitted = type(self)(pixels.shape[-1], self.costly)
        std, mean = torch.std_mean(pixels.double() / 255)
        fitted.load_state_dict({"mean": mean, "std": std})
        return fitted

    @property
    def image_channels(self) -> int:
        return self.channels

    @property
    def x_channels(self) -> int:
        return 9 * self.channels

    def x_size(self, size: Size) -> Size:
        return -(-size[0] // 3), -(-size[1] // 3)

    @property
    def scale(self) -> float:
        return float(self.std)

    def encode(self, pixels: Tensor) -> Tensor:
        images = (pixels.float() / 255).permute(0, 3, 1, 2)
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 3, 0, -height % 3), mode="replicate")
        return F.pixel_unshuffle((padded - self.mean) / self.std, 3)

    def to_image(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 3) * self.std + self.mean
