"""Denoising: the standard training loss of diffusion and flow models."""

import torch
from torch import Tensor

from noisekiln.conditions import Cond
from noisekiln.denoisers import Denoiser
from noisekiln.draws.base import Draw
from noisekiln.draws.log_normal import LogNormal
from noisekiln.levels import CLEAN, Level, noise_from, renoise
from noisekiln.loss_weights.base import LossWeight
from noisekiln.loss_weights.unit import Unit
from noisekiln.objectives.base import Loss, Objective, Teacher

EXIT_WEIGHT = 0.5  # of the loss of an early exit (Internal Guidance, CVPR 2026)


class Denoising(Objective):
    """Draw a level, add noise, and compare the network's output with its target; that of an early exit at half weight.

    Args:
        draw: Distribution of the training levels.
        loss_weight: Weight of each level.
    """

    def __init__(self, draw: Draw = LogNormal(), loss_weight: LossWeight | None = None) -> None:
        super().__init__()
        self.draw = draw
        self.loss_weight = loss_weight or Unit()

    def drawn(self, x: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Tensor]:
        """Levels, as alpha and sigma of shape (B,), and noise of the shape of x: all on the device of x."""
        return *self.draw.levels_for(x, generator), noise_from(generator)(x)

    def loss(  # noqa: D102 (the base class says it)
        self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...], teacher: Teacher | None = None
    ) -> Loss:
        alpha, sigma, noise = drawn
        t = Level(*(part.view(-1, *[1] * (x.ndim - 1)) for part in (alpha, sigma)))
        flat, target = Level(alpha, sigma), denoiser.prediction.target(x, noise, t)
        outputs = denoiser.outputs(renoise(x, CLEAN, t, noise), t, cond)
        error, *early = [(y - target).square().flatten(1).mean(1) for y in outputs]
        value = self.loss_weight(error, flat, denoiser.prediction).mean()
        for each in early:
            value = value + EXIT_WEIGHT * self.loss_weight(each, flat, denoiser.prediction).mean()
        return Loss(value, error.detach(), flat)
