"""Standardisation of latents by statistics of images, with what an autoencoder loses of them."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

PROBE = 0.1  # change of x by which `scale` is measured
SMALLEST = 1e-6  # deviation, and scale


class LatentStatistics(nn.Module):
    """``x = (latents - mean) / std`` for each channel; batch norm without affine, with statistics that are measured.

    Args:
        channels: Channels of the latents.

    Attributes:
        scale: Change of an image, as a root mean square, when x changes by 1; 0 until it is measured.
        error: Root mean square error of images that are encoded and decoded.
    """

    mean: Tensor
    std: Tensor
    scale: Tensor
    error: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("std", torch.ones(channels, 1, 1))
        self.register_buffer("scale", torch.zeros(()))
        self.register_buffer("error", torch.zeros(()))

    @property
    def measured(self) -> bool:
        """Whether `measure` was called."""
        return bool(self.scale > 0)

    def forward(self, latents: Tensor) -> Tensor:
        """Latents (B, C, H, W) -> x of mean 0 and variance 1."""
        return (latents - self.mean) / self.std

    def restore(self, x: Tensor) -> Tensor:
        """The inverse."""
        return x * self.std + self.mean

    @torch.no_grad()
    def measure(
        self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], pixels: Tensor, at_once: int = 16
    ) -> None:
        """Measure mean and deviation on images, and on the first of them scale and error.

        Args:
            encode: Function from images (B, H, W, C) uint8 to latents.
            decode: Function from x to images (B, C, H, W) of about [0, 1].
            pixels: The images, (N, H, W, C) uint8, in main memory.
            at_once: Images in memory at once.
        """
        latents = torch.cat([encode(part.to(self.mean.device)).cpu() for part in pixels.split(at_once)])
        std, mean = torch.std_mean(latents.double(), dim=(0, 2, 3), correction=0)  # float64, which not all devices have
        self.mean.copy_(mean.view(-1, 1, 1))
        self.std.copy_(std.clamp(min=SMALLEST).view(-1, 1, 1))
        self.measure_images(encode, decode, pixels[:at_once])

    @torch.no_grad()
    def measure_images(
        self, encode: Callable[[Tensor], Tensor], decode: Callable[[Tensor], Tensor], pixels: Tensor
    ) -> None:
        """Measure scale and error, where mean and deviation are known; arguments are those of `measure`."""
        pixels = pixels.to(self.mean.device)
        x, target = self(encode(pixels)), pixels.permute(0, 3, 1, 2).float() / 255
        change = PROBE * torch.randn(x.shape, generator=torch.Generator().manual_seed(0)).to(x)
        images = decode(x)
        difference = (decode(x + change) - images).square().mean().sqrt()
        self.scale.copy_((difference / PROBE).clamp(min=SMALLEST))
        self.error.copy_((images[..., : target.shape[2], : target.shape[3]] - target).square().mean().sqrt())
