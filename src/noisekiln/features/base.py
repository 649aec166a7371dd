"""The interface of feature extractors, and what they do with images before their network."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor

from noisekiln.errors import DataError, counted

PIXELS_AT_ONCE = 2**22  # of the input images: 50 MB as floats in three channels


class FeatureExtractor(ABC):
    """Images -> one vector of features each, from a frozen network. A frozen dataclass of settings.

    The features of an image depend on nothing but the image: neither on the other images, nor on their order, nor on
    the batch size (to 1e-5 of their size). `extract` computes where the images lie, CPU or GPU.
    """

    @property
    def batch_size(self) -> int:
        """Images that the network sees at once, at most. May be overridden."""
        return 64

    @property
    def channels(self) -> tuple[int, ...]:
        """Numbers of channels that images may have. May be overridden."""
        return (1, 3)

    def fit(self, images: Tensor, labels: Tensor | None = None) -> Self:
        """An extractor with these settings that is fitted to a data set; this one if nothing is fitted.

        May be overridden.

        Args:
            images: Images, (N, H, W, C) uint8.
            labels: Class of each image, (N,) int64; None if they have none.

        Raises:
            DataError: If it cannot be fitted to them.
        """
        return self

    def extract(self, images: Tensor) -> Tensor:
        """Features of images, (N, D) float32 on the CPU.

        Args:
            images: Images, (N, H, W, C) uint8, grey or in colour; of any size, and N may be 0.

        Raises:
            DataError: If they have another shape, another type, or another number of channels.
        """
        check_images(images, self.channels)
        size = max(1, min(self.batch_size, PIXELS_AT_ONCE // max(1, images[:1].numel())))
        with torch.no_grad(), _full_precision():
            parts = [self.features_of(batch).float().cpu() for batch in images.split(size)]
        return torch.cat(parts)

    @abstractmethod
    def features_of(self, images: Tensor) -> Tensor:
        """Features (B, D) of a batch of images (B, H, W, C) uint8, B >= 0; `extract` has checked the images."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What stands in each report: "name", "version" (which weights), "preprocessing" (what the network sees)."""


@contextmanager
def _full_precision() -> Iterator[None]:
    """Float32 as it is: on a GPU, training may have allowed products in TF32, which has 10 bits of it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def check_images(images: Tensor, channels: tuple[int, ...] = (1, 3)) -> None:
    """Check that features can be computed of images.

    Raises:
        DataError: If they are not (N, H, W, C) uint8 with one of these numbers of channels.
    """
    subject = f"Images of the shape {tuple(images.shape)} and the type {str(images.dtype).removeprefix('torch.')}"
    if images.ndim != 4 or images.dtype != torch.uint8 or 0 in images.shape[1:3]:
        raise DataError(
            subject,
            "features are computed of images (N, H, W, C) with values from 0 to 255 as uint8",
            "Convert them first, as in images.permute(0, 2, 3, 1).mul(255).round().to(torch.uint8)",
        )
    if images.shape[3] not in channels:
        raise DataError(
            subject,
            f"they have {counted(images.shape[3], 'channel')}, and these features are of images with "
            + " or ".join(map(str, channels)),
            "Choose other features, or compute them of some of the channels",
        )


def colour_input(images: Tensor) -> Tensor:
    """Images (B, H, W, C) uint8 as (B, 3, H, W) floats from 0 to 255; grey is repeated."""
    return images.permute(0, 3, 1, 2).float().expand(-1, 3, -1, -1)


def resized(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, C, H, W) as (B, C, *size), bilinear and antialiased; the aspect ratio is not kept."""
    return torch.nn.functional.interpolate(x, size, mode="bilinear", antialias=True, align_corners=False)
