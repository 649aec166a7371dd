"""Pixels themselves, standardised."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.codecs.base import Codec


@dataclass(frozen=True)
class Pixels(Codec):
    """``x = (pixel / 255 - mean) / std``, per channel.

    Args:
        mean: Of each channel over the data set, in [0, 1].
        std: Standard deviation of each channel, > 0.
    """

    mean: tuple[float, ...] = (0.5,)
    std: tuple[float, ...] = (0.5,)

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not self.mean or min(self.std) <= 0:
            raise ValueError(f"{self}: every channel needs one mean and one deviation above 0.")

    @classmethod
    def fit(cls, pixels: Tensor) -> "Pixels":
        """The codec that standardises these images, (N, H, W, C) uint8.

        A channel that never changes gets the deviation 1/255, so that one grey step is one unit.
        """
        grey = torch.arange(256, dtype=torch.float64) / 255
        mean, std = [], []
        for channel in range(pixels.shape[-1]):
            parts = [torch.bincount(part[..., channel].flatten(), minlength=256) for part in pixels.split(4096)]
            counts = torch.stack(parts).sum(0).double()
            share = counts / counts.sum()  # of each grey level: exact, and small however many the images
            mean.append(float(share @ grey))
            std.append(max(float(share @ (grey - mean[-1]) ** 2) ** 0.5, 1 / 255))
        return cls(tuple(mean), tuple(std))

    @property
    def channels(self) -> int:  # noqa: D102 (the base class says it)
        return len(self.mean)

    @property
    def limits(self) -> tuple[Tensor, Tensor]:
        """What black and white become: two (C, 1, 1) tensors."""
        mean, std = (torch.tensor(values, dtype=torch.float32).view(-1, 1, 1) for values in (self.mean, self.std))
        return -mean / std, (1 - mean) / std

    def encode(self, pixels: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        if pixels.shape[-1] != self.channels:
            raise ValueError(
                f"images with {pixels.shape[-1]} channels were given to a codec for {self.channels}. "
                "Convert them first, or train on images of this kind."
            )
        mean, std = (torch.tensor(values, device=pixels.device) for values in (self.mean, self.std))
        return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2)

    def picture(self, x: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        mean, std = (torch.tensor(values).to(x).view(-1, 1, 1) for values in (self.mean, self.std))
        return x * std + mean

    @property
    def scale(self) -> float:  # noqa: D102 (the base class says it)
        return math.sqrt(sum(std**2 for std in self.std) / self.channels)

    def decode(self, x: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        pixels = self.picture(x.float()).permute(0, 2, 3, 1)
        return pixels.mul(255).round().clamp(0, 255).to(torch.uint8).contiguous()
