"""The average of the weights that one samples with."""

import copy
from math import sqrt

import numpy as np
import torch
from torch import Tensor, nn


def exponent(length: float) -> float:
    """The power gamma of an average whose relative standard deviation is `length` (Karras et al. 2024, eq. 126).

    The largest real root of ``g^3 + 7 g^2 + (16 - length^-2) g + (12 - length^-2)``.
    """
    if not 0 < length < sqrt(1 / 12):
        raise ValueError(f"An EMA length of {length:g} is not possible. It is a share of training: take 0.01 to 0.25.")
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


class Ema:
    """A power-function average of a module's parameters (Karras et al. 2024, eq. 121-127).

    After t images the weights of image tau count as ``tau^gamma``: the average is over a fixed share of training so
    far, so it never remembers the random start, however short the run. Parameters are averaged; buffers are copied.

    Args:
        module: What is averaged; the average lives in `Ema.module`, a copy to sample with.
        length: Width of the average, as a share of the training so far.
    """

    def __init__(self, module: nn.Module, length: float = 0.1) -> None:
        self.length = length
        self.gamma = exponent(length)
        self.module = copy.deepcopy(module).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, images_seen: int, since: int) -> None:
        """Take in the module as it is now.

        Args:
            module: What is trained.
            images_seen: Images that it has been trained on.
            since: Images since the last update.
        """
        keep = (1 - since / images_seen) ** (self.gamma + 1)
        averages: list[Tensor] = list(self.module.parameters())
        parameters: list[Tensor] = list(module.parameters())
        torch._foreach_lerp_(averages, parameters, 1 - keep)
        for average, buffer in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(buffer)
