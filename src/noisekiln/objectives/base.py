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
    def drawn(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All that is random in the loss of a batch: tensors with a row for each image, so that they can be cut.

        Args:
            x: Clean images of unit variance, (B, C, H, W).
            generator: Source of all randomness.
        """

    @abstractmethod
    def loss(self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...]) -> Loss:
        """The loss of a batch, or of some of its rows.

        Args:
            denoiser: What is trained.
            x: Clean images of unit variance, (B, C, H, W).
            cond: Their conditions.
            drawn: What `drawn` gave for them.
        """

    def forward(self, denoiser: Denoiser, x: Tensor, cond: Cond, generator: torch.Generator) -> Loss:
        """The loss of a batch, with fresh randomness."""
        return self.loss(denoiser, x, cond, self.drawn(x, generator))
