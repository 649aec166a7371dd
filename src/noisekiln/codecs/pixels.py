"""Pixels, standardised per channel."""

import math
from typing import Self

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec, Limits, Size, check_channels
from noisekiln.errors import counted


class Pixels(Codec):
    """``x = (pixel / 255 - mean) / std``, per channel.

    Args:
        mean: Mean of each channel, in [0, 1]; fitted to the data set if it is empty.
        std: Standard deviation of each channel, > 0; likewise.
    """

    mean_of_channels: Tensor
    std_of_channels: Tensor

    def __init__(self, mean: tuple[float, ...] = (), std: tuple[float, ...] = ()) -> None:
        super().__init__()
        if (mean and std and len(mean) != len(std)) or min(std, default=1) <= 0:
            raise ValueError(
                f"pixels(mean={mean}, std={std}): every channel needs one mean and one deviation above 0. "
                "Give two tuples of the same length."
            )
        self.mean, self.std = mean, std
        # Constants that move with the model: training must not copy them to the device at every step.
        self.register_buffer("mean_of_channels", torch.tensor(mean), persistent=False)
        self.register_buffer("std_of_channels", torch.tensor(std), persistent=False)

    def fit(self, pixels: Tensor) -> Self:
        """The codec that standardises these images, (N, H, W, C) uint8, by its own mean and deviation if it has them.

        A channel that never changes gets the deviation 1/255, so that one grey step is one unit.
        """
        own = len(self.mean or self.std)
        if own and own != pixels.shape[-1]:
            raise ValueError(
                f"pixels(mean={self.mean}, std={self.std}) has {counted(own, 'channel')}, and these images have "
                f"{pixels.shape[-1]}. Give one number for each channel, or none: then they are fitted to the images."
            )
        grey = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(pixels.shape[-1]):
            parts = [torch.bincount(part[..., channel].flatten(), minlength=256) for part in pixels.split(4096)]
            counts = torch.stack(parts).sum(0).double()
            share = counts / counts.sum()  # of each grey level: exact, and small however many the images
            mean.append(float(share @ grey))
            std.append(max(float(share @ (grey - mean[-1]) ** 2) ** 0.5, 1 / 255))
        return type(self)(self.mean or tuple(mean), self.std or tuple(std))

    @property
    def image_channels(self) -> int:  # noqa: D102 (the base class says it)
        return len(self.mean)

    @property
    def x_channels(self) -> int:  # noqa: D102 (the base class says it)
        return len(self.mean)

    def x_size(self, size: Size) -> Size:  # noqa: D102 (the base class says it)
        return size

    @property
    def limits(self) -> Limits:
        """X of black and of white: two (C, 1, 1) tensors."""
        mean, std = (values.view(-1, 1, 1) for values in (self.mean_of_channels, self.std_of_channels))
        return -mean / std, (1 - mean) / std

    @property
    def scale(self) -> float:  # noqa: D102 (the base class says it)
        return math.sqrt(sum(std**2 for std in self.std) / len(self.std))

    def encode(self, pixels: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        check_channels(self, pixels)
        return ((pixels.float() / 255 - self.mean_of_channels) / self.std_of_channels).permute(0, 3, 1, 2)

    def to_image(self, x: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        mean, std = (values.to(x).view(-1, 1, 1) for values in (self.mean_of_channels, self.std_of_channels))
        return x * std + mean
