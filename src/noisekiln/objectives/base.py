"""The interface of objectives."""

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
        level: Levels of the noisy images, two (B,) tensors.
    """

    value: Tensor
    per_sample: Tensor
    level: Level


class Objective(nn.Module, ABC):
    """A loss for a denoiser and a batch; a Module, because parts of it may be learned along with the network.

    A constructor that takes ``draw`` (a `Draw`), ``loss_weight`` (a `LossWeight`) or ``teacher`` (a `Denoiser`, frozen
    and on the right device, or None) is given what the settings of those names say. All else is its own settings.
    """

    @abstractmethod
    def drawn(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        """All that is random in the loss of a batch: tensors with a row for each image, so that they can be cut.

        Args:
            x: Clean x of unit variance, (B, C, H, W).
            generator: Source of all randomness.
        """

    @abstractmethod
    def loss(self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...]) -> Loss:
        """The loss of a batch, or of some of its rows.

        Args:
            denoiser: What is trained.
            x: Clean x of unit variance, (B, C, H, W).
            cond: Conditions of the images.
            drawn: What `drawn` returned for them.
        """

    def forward(self, denoiser: Denoiser, x: Tensor, cond: Cond, generator: torch.Generator) -> Loss:
        """The loss of a batch, with fresh randomness."""
        return self.loss(denoiser, x, cond, self.drawn(x, generator))
