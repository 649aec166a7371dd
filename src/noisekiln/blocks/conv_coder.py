"""Convolutional encoder and decoder between images and small images of latents."""

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.blocks.conv_block import ConvBlock
from noisekiln.blocks.shape import depth_to_space, space_to_depth


class ConvEncoder(nn.Module):
    """Images to latents; the first resolution is half that of the image, each further one half of that before.

    Args:
        image_channels: Channels of images.
        channels: Channels of latents.
        widths: Channels at each resolution, highest first.
        blocks: Blocks at each resolution.
    """

    def __init__(self, image_channels: int, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(4 * image_channels, widths[0], 3, padding=1)
        self.stages = nn.ModuleList(_stage(width, blocks) for width in widths)
        self.downsample = nn.ModuleList(nn.Conv2d(4 * fine, coarse, 1) for fine, coarse in pairwise(widths))
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """(B, image_channels, H, W) -> (B, channels, H / 2^n, W / 2^n) with n resolutions."""
        h = self.conv_in(space_to_depth(image))
        for number, stage in enumerate(self.stages):
            h = stage(h if number == 0 else self.downsample[number - 1](space_to_depth(h)))
        latents: Tensor = self.conv_out(F.silu(h))
        return latents


class ConvDecoder(nn.Module):
    """Latents to images: the mirror image of `ConvEncoder`, with the same arguments."""

    def __init__(self, image_channels: int, channels: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(channels, widths[-1], 3, padding=1)
        self.stages = nn.ModuleList(_stage(width, blocks) for width in widths[::-1])
        self.upsample = nn.ModuleList(nn.Conv2d(coarse, 4 * fine, 1) for coarse, fine in pairwise(widths[::-1]))
        self.conv_out = nn.Conv2d(widths[0], 4 * image_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, H, W) -> (B, image_channels, 2^n H, 2^n W) with n resolutions."""
        h = self.conv_in(x)
        for number, stage in enumerate(self.stages):
            h = stage(h if number == 0 else depth_to_space(self.upsample[number - 1](h)))
        return depth_to_space(self.conv_out(F.silu(h)))


def reach(resolutions: int, blocks: int) -> int:
    """Positions of x, on each side, that an output of encoder or decoder can depend on, at most."""
    at_finest = 1 + ConvBlock.RADIUS * blocks  # of which each resolution counts half as much as the next coarser one
    return 2 * at_finest if resolutions > 1 else at_finest + 1


def _stage(width: int, blocks: int) -> nn.Sequential:
    return nn.Sequential(*(ConvBlock(width) for _ in range(blocks)))
