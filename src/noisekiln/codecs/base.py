"""The interface of codecs."""

from abc import ABC, abstractmethod
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from noisekiln.errors import counted, reason_of

Size = tuple[int, int]  # (height, width)
Limits = tuple[Tensor, Tensor]
LARGE = 4096  # pixels: long enough for every codec, to measure how many of them share a position of x


class Codec(nn.Module, ABC):
    """Images <-> x, the tensors that diffusion works on. Standardising happens here and nowhere else.

    A codec is frozen while a diffusion model is trained. Constructor arguments are kept under their own names; weights
    and buffers are saved with the model.
    """

    costly: bool = False  # whether training should encode each image only once (a task's condition images: every time)
    is_learned: ClassVar[bool] = False  # whether its weights are trained on images before it can be used

    @abstractmethod
    def fit(self, pixels: Tensor) -> Self:
        """A codec with these settings for these images, (N, H, W, C) uint8; this one if there is nothing to adapt.

        Raises:
            ValueError: If it cannot encode images of this kind.
        """

    @property
    @abstractmethod
    def image_channels(self) -> int:
        """Channels of images."""

    @property
    @abstractmethod
    def x_channels(self) -> int:
        """Channels of x."""

    @abstractmethod
    def x_size(self, size: Size) -> Size:
        """Height and width of x for images of (height, width) pixels.

        It must not depend on what `fit` reads: the size of the network is chosen before the codec is fitted.
        """

    @abstractmethod
    def encode(self, pixels: Tensor) -> Tensor:
        """Images (B, H, W, C) -> x (B, C', H', W') float32, of mean 0 and variance 1 over a data set.

        Images are uint8, or floats from 0 to 255 if values lie between grey levels (an enlarged image).
        """

    @abstractmethod
    def to_image(self, x: Tensor) -> Tensor:
        """X -> images (B, C, H, W), floats in about [0, 1]; differentiable, neither rounded nor clipped.

        Where several image sizes have one x-size, the largest is returned.
        """

    @property
    @abstractmethod
    def scale(self) -> float:
        """Change of an image, as a root mean square, when x changes by 1."""

    @property
    def reconstruction_error(self) -> float:
        """Root mean square error of images in [0, 1] that are encoded and decoded: what no x can reproduce.

        May be overridden; 0 for a codec that loses nothing.
        """
        return 0.0

    @property
    def limits(self) -> Limits | None:
        """Lowest and highest x that decodes without being clipped, broadcasting to (C', H', W').

        May be overridden; None if x has no such bounds.
        """
        return None

    def decode(self, x: Tensor, size: Size | None = None) -> Tensor:
        """X -> images (B, H, W, C) uint8, cropped to `size`, if it is set; values out of range are clipped."""
        images = self.to_image(x.float()).permute(0, 2, 3, 1)
        if size is not None:
            images = images[:, : size[0], : size[1]]
        return images.mul(255).round().clamp(0, 255).to(torch.uint8).contiguous()


def check_channels(codec: Codec, pixels: Tensor) -> None:
    """Raise ValueError if images (..., C) have other channels than those of a codec."""
    found, needed = pixels.shape[-1], codec.image_channels
    if found != needed:
        raise ValueError(
            f"Images with {counted(found, 'channel')} cannot be encoded by a codec for {needed}. "
            "Convert them first, or train on images of this kind."
        )


def pixels_per_position(codec: Codec) -> Size:
    """Height and width of the pixels that share a position of x."""
    height, width = codec.x_size((LARGE, LARGE))
    return max(1, round(LARGE / height)), max(1, round(LARGE / width))


@torch.no_grad()
def check_image_size(codec: Codec, size: Size, device: torch.device | str) -> None:
    """Check with a black image that a codec, on this device, takes images of this size, and that its x is as it says.

    Raises:
        ValueError: If it cannot encode such images, returns fewer pixels, or has x of another shape than it says.
    """
    name, pixels = type(codec).__name__, f"{size[0]}x{size[1]} pixels"
    (down, across), declared = pixels_per_position(codec), (codec.x_channels, *codec.x_size(size))
    fits = size[0] % down == 0 and size[1] % across == 0
    near = max(1, round(size[0] / down)) * down, max(1, round(size[1] / across)) * across
    sides = f"a height that is a multiple of {down} and a width that is a multiple of {across}"
    remedy = f"Give images with {sides}, such as {near[0]}x{near[1]}"
    with torch.random.fork_rng(devices=[]):  # a codec may draw noise
        try:
            x = codec.encode(torch.zeros(1, *size, codec.image_channels, dtype=torch.uint8, device=device))
        except RuntimeError as error:
            if fits or isinstance(error, torch.OutOfMemoryError):
                raise
            raise ValueError(
                f"Images of {pixels} cannot be encoded by {name}: {reason_of(error)}. {remedy}."
            ) from error
        if tuple(x.shape[1:]) != declared:
            raise ValueError(
                f"The codec {name} makes x of the shape {tuple(x.shape[1:])} from images of {pixels}, and its "
                f"`x_channels` and `x_size` say {declared}. {'Correct the codec' if fits else remedy}."
            )
        back = tuple(codec.to_image(x).shape[2:])
    if back[0] < size[0] or back[1] < size[1]:
        raise ValueError(
            f"Images of {pixels} lose pixels in {name}: {back[0]}x{back[1]} come back. "
            f"{'Correct the codec' if fits else remedy}."
        )
