"""A codec that halves the resolution: each square of four pixels becomes four channels of x."""

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec, Size


class Halving(Codec):
    """``x = space_to_depth(image / 255 - mean) / std``.

    Args:
        channels: Channels of images.
        mean: Mean of all pixels, in [0, 1].
        std: Standard deviation of all pixels.
        costly: Whether to be treated as a codec that should encode each image once.
    """

    def __init__(self, channels: int = 3, mean: float = 0.5, std: float = 0.25, costly: bool = False) -> None:
        super().__init__()
        self.channels = channels
        self.mean = mean
        self.std = std
        self.costly = costly

    def fit(self, pixels: Tensor) -> Self:
        std, mean = torch.std_mean(pixels.double() / 255)
        return type(self)(pixels.shape[-1], float(mean), float(std), self.costly)

    @property
    def image_channels(self) -> int:
        return self.channels

    @property
    def x_channels(self) -> int:
        return 4 * self.channels

    def x_size(self, size: Size) -> Size:
        return -(-size[0] // 2), -(-size[1] // 2)

    @property
    def scale(self) -> float:
        return self.std

    def encode(self, pixels: Tensor) -> Tensor:
        images = (pixels.float() / 255).permute(0, 3, 1, 2)
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, width % 2, 0, height % 2), mode="replicate")
        return F.pixel_unshuffle((padded - self.mean) / self.std, 2)

    def to_image(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(x, 2) * self.std + self.mean
