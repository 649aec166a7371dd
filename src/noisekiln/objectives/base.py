"""The interface of objectives."""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from noisekiln.conditions import NOTHING, Cond
from noisekiln.denoisers import Denoiser
from noisekiln.estimate import Denoise, DenoiseBoth
from noisekiln.levels import Level


class Loss(NamedTuple):
    """The loss of a training step, and values to report.

    Attributes:
        value: Loss to differentiate, 0-d.
        per_sample: Unweighted mean squared error of each image's output, (B,), detached.
        level: Levels of the noisy images, two (B,) tensors.
    """

    value: Tensor
    per_sample: Tensor
    level: Level


class Teacher(NamedTuple):
    """A frozen model, bound to the conditions of a batch as it knows them itself.

    Attributes:
        denoise: The model with each image's condition.
        both: The same, and without conditions, in one call of twice the batch: for guidance.
    """

    denoise: Denoise
    both: DenoiseBoth


class Objective(nn.Module, ABC):
    """A loss for a denoiser and a batch; a Module, because parts of it may be learned along with the network.

    A constructor with an argument ``draw`` (a `Draw`) or ``loss_weight`` (a `LossWeight`) receives the component of the
    setting with this name. All other arguments are its own settings. `is_denoising` and `needs_teacher` may be
    overridden.
    """

    is_denoising: ClassVar[bool] = True  # whether the denoising loss of held-out images shows how well it learns
    needs_teacher: ClassVar[bool] = False  # whether `loss` receives the model of the setting `teacher`

    @abstractmethod
    def drawn(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, ...]:
        """All random values of the loss of a batch: tensors with one row per image, so that they can be split.

        Args:
            x: Clean x of unit variance, (B, C, H, W).
            generator: Source of all randomness; None for torch's own, which `torch.manual_seed` seeds.
        """

    @abstractmethod
    def loss(
        self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...], teacher: Teacher | None = None
    ) -> Loss:
        """The loss of a batch, or of some of its rows.

        Args:
            denoiser: The denoiser to train.
            x: Clean x of unit variance, (B, C, H, W).
            cond: Conditions of the images.
            drawn: Random values of these images, from `drawn`.
            teacher: The model to learn from, for an objective that `needs_teacher`.
        """

    def forward(
        self, denoiser: Denoiser, x: Tensor, cond: Cond = NOTHING, generator: torch.Generator | None = None
    ) -> Loss:
        """The loss of a batch, with fresh randomness; arguments as for `loss` and `drawn`."""
        return self.loss(denoiser, x, cond, self.drawn(x, generator))
