"""Base class of tasks."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec, Size
from noisekiln.components.spec import describe
from noisekiln.data import Split
from noisekiln.errors import counted
from noisekiln.estimate import Denoise
from noisekiln.levels import NoiseSource, noise_from


class Task(ABC):
    """Generating from a source image: a small one, one with holes, a grey one. A frozen dataclass of settings.

    A *source* is the image that a user gives, (B, h, w, c) uint8. `observe` computes it from complete images, so that
    any folder of images trains any task; `condition_image` computes ``Cond.image`` from it, in training and sampling.
    Sizes are (height, width) in pixels. `paired` may be overridden.
    """

    paired: ClassVar[bool] = False  # whether training observes the partners of images, and not the images themselves

    @abstractmethod
    def source_channels(self, channels: int) -> int:
        """Channels of a source, for a model of images with `channels`.

        Raises:
            ValueError: If there is no such task for these images.
        """

    @abstractmethod
    def condition_channels(self, channels: int) -> int:
        """Channels of ``Cond.image``, for an x with `channels`."""

    @abstractmethod
    def observe(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """A source that would lead to these images, (B, H, W, C) uint8 -> (B, h, w, c) uint8, at random."""

    def sources_of(self, images: Split, seed: int = 0) -> Tensor:
        """Sources that would lead to images, from their partners where they have some: (N, h, w, c) uint8."""
        observed = images.pixels if images.partners is None else images.partners
        return self.observe(torch.from_numpy(observed), torch.Generator().manual_seed(seed))

    @abstractmethod
    def condition_image(self, source: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:
        """``Cond.image`` of a source, (B, condition_channels, H', W'), as high and wide as x.

        Args:
            source: (B, h, w, c) uint8.
            codec: Between images and x.
            size: Size of the images to generate; x has ``codec.x_size(size)``.
            noise: Source of fresh noise of an image's shape.
        """

    def training_condition(self, images: Tensor, codec: Codec, generator: torch.Generator) -> Tensor:
        """``Cond.image`` for training, from complete images (B, H, W, C) uint8. May be overridden.

        All random numbers come from the generator.
        """
        size = (images.shape[1], images.shape[2])
        return self.condition_image(self.observe(images, generator), codec, size, noise_from(generator))

    def check_source(self, source: Tensor | None, count: int, channels: int) -> Tensor:
        """The source, if it is `count` images that this task can read for a model of `channels`. May be overridden.

        Raises:
            ValueError: If it is None, or something else.
        """
        needed = (
            f"{describe(self)} needs one image for each to be generated, (N, h, w, {self.source_channels(channels)}) "
            "uint8"
        )
        if source is None:
            raise ValueError(f"There is no source to start from: {needed}. Give the images as `source`.")
        if source.dtype != torch.uint8 or source.shape != (count, *source.shape[1:3], self.source_channels(channels)):
            actual = f"{tuple(source.shape)} {str(source.dtype).removeprefix('torch.')}"
            raise ValueError(f"`source` is {actual} for {counted(count, 'image')}: {needed}. Convert the images first.")
        return source

    def source_size(self, size: Size) -> Size:
        """Size of the sources of images of this size. May be overridden."""
        return size

    def output_size(self, source: Size, trained: Size) -> Size:
        """Size of the images generated from a source of this size. May be overridden.

        Args:
            source: Size of the source.
            trained: Size of the images in training.
        """
        return trained if source == self.source_size(trained) else source

    def clamp_known(self, denoise: Denoise, image: Tensor) -> Denoise:
        """The denoiser, with the pixels that ``Cond.image`` fixes set in its estimates. May be overridden.

        By default no pixel is fixed.
        """
        return denoise

    def preview(self, source: Tensor, size: Size) -> Tensor:
        """The source for grids, (B, H, W, C) uint8 of the images' size. May be overridden."""
        return F.interpolate(source.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def signed(source: Tensor, codec: Codec, size: Size) -> Tensor:
    """Images (B, H, W, C) uint8 of this size -> (B, C, H', W') in [-1, 1], averaged over the pixels of each x."""
    return F.interpolate((source.float() / 127.5 - 1).permute(0, 3, 1, 2), codec.x_size(size), mode="area")
