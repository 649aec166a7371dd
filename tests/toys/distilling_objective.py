"""An objective with a teacher: the student learns the teacher's estimate of the clean image in one step."""

import torch
from torch import Tensor

from noisekiln.conditions import Cond
from noisekiln.denoiser import Denoiser
from noisekiln.draws.base import Draw, stratified
from noisekiln.levels import CLEAN, Level, renoise
from noisekiln.objectives.base import Loss, Objective


class Distilling(Objective):
    """``|x_student(x_t) - x_teacher(x_t)|^2``.

    Args:
        teacher: The model to learn from.
        draw: Distribution of the training levels.
    """

    def __init__(self, teacher: Denoiser, draw: Draw) -> None:
        super().__init__()
        self.teacher, self.draw = teacher, draw

    def drawn(self, x: Tensor, generator: torch.Generator) -> tuple[Tensor, ...]:
        return stratified(len(x), generator), torch.randn(x.shape, generator=generator).to(x)

    def loss(self, denoiser: Denoiser, x: Tensor, cond: Cond, drawn: tuple[Tensor, ...]) -> Loss:
        u, noise = drawn
        t = Level(*(c.to(x.device, x.dtype).view(-1, 1, 1, 1) for c in self.draw(u)))
        x_t = renoise(x, CLEAN, t, noise)
        with torch.no_grad():
            target = self.teacher(x_t, t, cond).x
        error = (denoiser(x_t, t, cond).x - target).square().flatten(1).mean(1)
        return Loss(error.mean(), error.detach(), Level(*(c.flatten() for c in t)))
