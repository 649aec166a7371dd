"""Upscaling: from small images to large ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec, Size
from noisekiln.levels import NoiseSource, noise_from
from noisekiln.tasks.base import Task


@dataclass(frozen=True)
class Upscale(Task):
    """The network sees the small image enlarged with a little noise, ``sqrt(1 - a^2) z + a xi``, and a channel of a.

    In training a is uniform in [0, most], so that the network learns how far to trust its source: the conditioning
    augmentation of SR3 (Saharia et al. 2021) and of cascades (Ho et al. 2021, section 4).

    Args:
        factor: Upscaling factor per side: 2, 4 or 8. Small images are averages of squares of pixels.
        noise: The share a in sampling; more of it invents more detail, and hides more errors of the stage before.
        most: The largest share in training, below 1.
    """

    factor: int = 4
    noise: float = 0.0
    most: float = 0.5

    def __post_init__(self) -> None:
        if self.factor not in (2, 4, 8):
            raise ValueError(f"upscale(factor={self.factor}): images are enlarged by a power of 2. Give 2, 4 or 8.")
        if not 0 <= self.noise <= self.most < 1:
            raise ValueError(
                f"upscale(noise={self.noise:g}, most={self.most:g}): the model learns shares of noise from 0 to "
                f"{self.most:g}, and no others. Give a noise between 0 and most, and most below 1."
            )

    def source_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels

    def condition_channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The means of squares of pixels; at the lower and right edge, of the pixels that are left."""
        means = F.avg_pool2d(images.permute(0, 3, 1, 2).float(), self.factor, ceil_mode=True, count_include_pad=False)
        return means.round().to(torch.uint8).permute(0, 2, 3, 1)

    def condition_image(self, source: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        x = codec.encode(self._enlarged(source, size))
        return _augmented(x, torch.full(x.shape[:1], self.noise), noise)

    def training_condition(self, images: Tensor, codec: Codec, generator: torch.Generator) -> Tensor:
        """As for sampling, with a random share of noise for each image."""
        x = codec.encode(self._enlarged(self.observe(images, generator), (images.shape[1], images.shape[2])))
        return _augmented(x, self.most * torch.rand(len(x), generator=generator), noise_from(generator))

    def source_size(self, size: Size) -> Size:
        """Smaller by the factor, rounded up."""
        return math.ceil(size[0] / self.factor), math.ceil(size[1] / self.factor)

    def output_size(self, source: Size, trained: Size) -> Size:
        """Larger by the factor, unless training had such sources."""
        return trained if source == self.source_size(trained) else (self.factor * source[0], self.factor * source[1])

    def _enlarged(self, source: Tensor, size: Size) -> Tensor:
        """(B, H, W, C) floats of 0 to 255, beyond which the cubic may overshoot; cut to the size."""
        large = F.interpolate(source.permute(0, 3, 1, 2).float(), scale_factor=float(self.factor), mode="bicubic")
        return large[..., : size[0], : size[1]].permute(0, 2, 3, 1)


def _augmented(x: Tensor, share: Tensor, noise: NoiseSource) -> Tensor:
    """X with its share of noise, (B,), and a channel that holds the share."""
    a = share.to(x).view(-1, 1, 1, 1)
    return torch.cat([(1 - a**2).sqrt() * x + a * noise(x), a.expand_as(x[:, :1])], dim=1)
