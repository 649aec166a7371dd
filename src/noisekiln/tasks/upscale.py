"""From small images to large ones."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec
from noisekiln.levels import NoiseSource
from noisekiln.tasks.base import Size, Task, drawn_from


@dataclass(frozen=True)
class Upscale(Task):
    """The small image is shown enlarged and a little noisy, ``sqrt(1 - a^2) z + a xi``, beside a plane that says a.

    In training a is uniform in [0, most], so that the network learns how far to trust what it is given: the
    noise-conditioning augmentation of SR3 (Saharia et al. 2021) and of cascades (Ho et al. 2021, section 4).

    Args:
        factor: How many times as high and as wide: 2, 4 or 8. Small images are averages of squares of pixels.
        noise: The share a when sampling; more of it invents more, and forgives more what the stage before did wrong.
        most: The largest share in training, below 1.
    """

    factor: int = 4
    noise: float = 0.0
    most: float = 0.5

    def __post_init__(self) -> None:
        if self.factor not in (2, 4, 8):
            raise ValueError(f"upscale(factor={self.factor}): squares of so many pixels are not made. Take 2, 4 or 8.")
        if not 0 <= self.noise <= self.most < 1:
            raise ValueError(
                f"upscale(noise={self.noise:g}, most={self.most:g}): the model learns shares of noise from 0 to "
                f"{self.most:g}, and knows no other. Give a noise between 0 and most, and most below 1."
            )

    def reads(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels

    def channels(self, channels: int) -> int:  # noqa: D102 (the base class says it)
        return channels + 1

    def observe(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """The means of squares of pixels; at the lower and right edge, of what there is of them."""
        means = F.avg_pool2d(pixels.permute(0, 3, 1, 2).float(), self.factor, ceil_mode=True, count_include_pad=False)
        return means.round().to(torch.uint8).permute(0, 2, 3, 1)

    def show(self, given: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:  # noqa: D102
        image = self._enlarged(given, codec, size)
        return _weakened(image, torch.full((len(image),), self.noise), noise)

    def degrade(self, pixels: Tensor, codec: Codec, generator: torch.Generator) -> Tensor:  # noqa: D102
        image = self._enlarged(self.observe(pixels, generator), codec, (pixels.shape[1], pixels.shape[2]))
        return _weakened(image, self.most * torch.rand(len(image), generator=generator), drawn_from(generator))

    def given_size(self, size: Size) -> Size:  # noqa: D102
        return math.ceil(size[0] / self.factor), math.ceil(size[1] / self.factor)

    def painted_size(self, given: Size, usual: Size) -> Size:  # noqa: D102
        return usual if given == self.given_size(usual) else (self.factor * given[0], self.factor * given[1])

    def _enlarged(self, given: Tensor, codec: Codec, size: Size) -> Tensor:
        """Bicubic; what an odd size left behind is cut."""
        large = F.interpolate(codec.encode(given), scale_factor=float(self.factor), mode="bicubic")
        return large[..., : size[0], : size[1]]


def _weakened(image: Tensor, share: Tensor, noise: NoiseSource) -> Tensor:
    a = share.to(image).view(-1, 1, 1, 1)
    return torch.cat([(1 - a**2).sqrt() * image + a * noise(image), a.expand_as(image[:, :1])], dim=1)
