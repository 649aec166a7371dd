"""The interface of codecs."""

from abc import ABC, abstractmethod
from typing import Self

import torch
from torch import Tensor, nn

Size = tuple[int, int]  # (height, width)
Limits = tuple[Tensor, Tensor]


class Codec(nn.Module, ABC):
    """Images <-> x, the tensors that diffusion works on. Standardising happens here and nowhere else.

    A codec is frozen while a diffusion model is trained. Constructor arguments are kept under their own names; weights
    and buffers are saved with the model.
    """

    costly: bool = False  # whether training should encode each image only once (a task's condition images: every time)

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
        """Height and width of x for images of (height, width) pixels."""

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
