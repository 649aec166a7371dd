"""A stand-in for the few functions of torchvision that two peers import.

Beside a CPU build of torch, torchvision's wheel fails at import, and both packages use it only to turn PIL images into
tensors and to write grids. What a peer's training calls is here, and as fast as the original: PIL to numpy to torch.
"""

import random
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class Compose:
    """Transforms, one after the other."""

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        """The transformed image."""
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda:
    """A function as a transform."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, image: Any) -> Any:
        """The function's result."""
        return self.function(image)


class RandomHorizontalFlip:
    """Mirrors half of the images."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """The image, or its mirror image."""
        return image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if random.random() < 0.5 else image


class ToTensor:
    """PIL image -> (C, H, W) in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        """The image as floats."""
        pixels = torch.from_numpy(np.array(image))
        return (pixels.unsqueeze(-1) if pixels.ndim == 2 else pixels).permute(2, 0, 1).float().div(255)


def install() -> None:
    """Make `torchvision.transforms` and `torchvision.utils` importable; anything else of it is an AttributeError."""
    package, transforms, utils = (ModuleType(f"torchvision{part}") for part in ("", ".transforms", ".utils"))
    for each in (Compose, Lambda, RandomHorizontalFlip, ToTensor):
        setattr(transforms, each.__name__, each)
    vars(package).update(transforms=transforms, utils=utils, __path__=[])
    sys.modules |= {module.__name__: module for module in (package, transforms, utils)}
