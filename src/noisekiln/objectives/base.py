"""What an objective is."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn

from noisekiln.conditions import Cond
from noisekiln.denoiser import Denoiser
from noisekiln.levels import Level


class Loss(NamedTuple):
    """What a training step minimises, and what it reports.

    Attributes:
        value: 0-d, to be differentiated.
        per_sample: Unweighted mean squared error of each image's output, (B,), detached.
        level: The levels they were at.
    """

    value: Tensor
    per_sample: Tensor
    level: Level


class Objective(nn.Module, ABC):
    """A loss for a denoiser and a batch; a Module, because its weight may be learned along."""

    @abstractmethod
    def forward(self, denoiser: Denoiser, x: Tensor, cond: Cond, generator: torch.Generator) -> Loss:
        """The loss of a batch.

        Args:
            denoiser: What is trained.
            x: Clean images of unit variance, (B, C, H, W).
            cond: Their conditions.
            generator: Source of all randomness.
        """
