"""What a task is."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.codecs.base import Codec
from noisekiln.components.spec import describe
from noisekiln.estimate import Denoise
from noisekiln.levels import NoiseSource

Size = tuple[int, int]


class Task(ABC):
    """Painting from something given: a small image, one with holes, a grey one. A frozen dataclass of settings.

    What is *given* is what a person has in a file: (B, h, w, c) uint8, always. `observe` makes it from whole images,
    so that any folder of images trains any task; `show` makes ``Cond.image`` of it, when training as when sampling.
    """

    paired: ClassVar[bool] = False  # whether training takes the partners of images, and not the images themselves

    @abstractmethod
    def reads(self, channels: int) -> int:
        """Channels of what is given, for a model of images with so many.

        Raises:
            ValueError: If there is no such task for these images.
        """

    @abstractmethod
    def channels(self, channels: int) -> int:
        """Channels of ``Cond.image``, for an x with so many."""

    @abstractmethod
    def observe(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """What could be given for these images, (B, H, W, C) uint8 -> (B, h, w, c) uint8, at random."""

    @abstractmethod
    def show(self, given: Tensor, codec: Codec, size: Size, noise: NoiseSource) -> Tensor:
        """``Cond.image`` of what is given, (B, channels, H, W).

        Args:
            given: (B, h, w, c) uint8.
            codec: Between images and x.
            size: Height and width of x.
            noise: Source of fresh noise of an image's shape.
        """

    def degrade(self, pixels: Tensor, codec: Codec, generator: torch.Generator) -> Tensor:
        """``Cond.image`` for training, from whole images (B, H, W, C) uint8; all randomness is the generator's."""
        return self.show(self.observe(pixels, generator), codec, _size(pixels), drawn_from(generator))

    def checked(self, given: Tensor | None, count: int, channels: int) -> Tensor:
        """What is given, if it is `count` images such as this task reads for a model of so many channels.

        Raises:
            ValueError: If it is nothing, or something else.
        """
        wanted = f"{describe(self)} needs an image for each picture, (N, h, w, {self.reads(channels)}) uint8"
        if given is None:
            raise ValueError(
                f"Nothing was given to start from: {wanted}. Give them with `given`, or `noisekiln apply`."
            )
        if given.dtype != torch.uint8 or given.shape != (count, *given.shape[1:3], self.reads(channels)):
            told = f"{tuple(given.shape)} {str(given.dtype).removeprefix('torch.')}"
            raise ValueError(f"{told} was given for {count} pictures. {wanted}. Convert the images first.")
        return given

    def given_size(self, size: Size) -> Size:
        """Height and width of what is given for pictures of this size."""
        return size

    def painted_size(self, given: Size, usual: Size) -> Size:
        """Height and width of what is painted from something of the size `given`; `usual` is what training showed."""
        return usual if given == self.given_size(usual) else given

    def hold(self, denoise: Denoise, image: Tensor) -> Denoise:
        """The denoiser, kept to what ``Cond.image`` says for certain; nothing, unless a task knows better."""
        return denoise

    def picture(self, given: Tensor, size: Size) -> Tensor:
        """What is given as people look at it: (B, H, W, C) uint8 of the size of the pictures."""
        return F.interpolate(given.permute(0, 3, 1, 2), size).permute(0, 2, 3, 1)


def drawn_from(generator: torch.Generator) -> NoiseSource:
    """Unit Gaussian noise for a batch from one generator, as training draws it."""
    return lambda like: torch.randn(like.shape, generator=generator, device=generator.device).to(like)


def signed(pixels: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8 -> (B, C, H, W) in [-1, 1]."""
    return (pixels.float() / 127.5 - 1).permute(0, 3, 1, 2)


def _size(pixels: Tensor) -> Size:
    return pixels.shape[1], pixels.shape[2]
