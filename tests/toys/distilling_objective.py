"""An objective with a teacher: the student learns the teacher's estimate of the clean image in one step."""

from typing import ClassVar

import torch
from torch import Tensor

from noisekiln.conditions import Cond
from noisekiln.denoisers import Denoiser
from noisekiln.draws.base import Draw
from noisekiln.levels import CLEAN, Level, noise_from, renoise
from noisekiln.objectives.base import Loss, Objective, Teacher


class Distilling(Objective):
    """``|x_student(x_t) - x_teacher(x_t)|^2``.

    Args:
        draw: Distribution of the training levels.
    """

    is_denoising: ClassVar[bool] = False
    needs_teacher: ClassVar[bool] = True

    def __init__(self, draw: Draw) -> None:
        super().__init__()
        self.draw = draw

    def drawn(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        return *self.draw.levels_for(x, generator), noise_from(generator)(x)

    def loss(
        self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...], teacher: Teacher | None = None
    ) -> Loss:
        assert teacher is not None
        alpha, sigma, noise = drawn
        t = Level(alpha.view(-1, 1, 1, 1), sigma.view(-1, 1, 1, 1))
        x_t = renoise(x, CLEAN, t, noise)
        with torch.no_grad():
            target = teacher.denoise(x_t, t).x
        error = (denoiser(x_t, t, cond).x - target).square().flatten(1).mean(1)
        return Loss(error.mean(), error.detach(), Level(alpha, sigma))
