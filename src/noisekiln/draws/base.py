"""Base class of draws, and the stratified uniform numbers that they read."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from noisekiln.levels import Level
from noisekiln.machine.transfer import to_device


class Draw(ABC):
    """A distribution of training levels, as its quantile function: from uniform numbers to levels.

    Because the uniform numbers are stratified over the batch (`stratified`), so are the levels, which lowers the
    variance of the loss at no cost.
    """

    @abstractmethod
    def __call__(self, u: Tensor) -> Level:
        """Levels at the quantiles `u`: (B,) float64 in (0, 1) -> two (B,) tensors; noise rises with u."""

    def levels_for(self, x: Tensor, generator: torch.Generator | None) -> Level:
        """A level for each of these images at random, stratified: two (B,) tensors with the type and device of x.

        They are computed in float64 on the CPU, and moved in one copy.
        """
        alpha, sigma = to_device(torch.stack(self(stratified(len(x), generator))).to(x.dtype), x.device)
        return Level(alpha, sigma)


def stratified(count: int, generator: torch.Generator | None) -> Tensor:
    """A uniform number from each of `count` equal cells of (0, 1), shuffled: (count,) float64 (Kingma et al. 2021)."""
    jitter = torch.rand(count, generator=generator, dtype=torch.float64)
    cells = torch.randperm(count, generator=generator)
    return ((cells + jitter) / count).clamp(1e-7, 1 - 1e-7)


def normal_quantile(u: Tensor, mean: float, std: float) -> Tensor:
    """Quantiles of N(mean, std^2)."""
    quantile: Tensor = mean + std * torch.special.ndtri(u)
    return quantile
