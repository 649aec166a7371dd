"""Learner: the module that is trained, a model and its objective together."""

from typing import Self

import torch
from torch import Tensor, nn

from noisekiln.components.registry import name_of
from noisekiln.conditions import NOTHING, Cond
from noisekiln.model.diffusion import Diffusion
from noisekiln.objectives.base import Loss, Objective, Teacher


class Learner(nn.Module):
    """The model, the learned parts of its objective, and the frozen teacher, as one module.

    The model's codec is frozen, and stays in evaluation mode: normalization and dropout must not change x.

    Args:
        diffusion: Model to train.
        objective: Loss of the model.
        teacher: Model that the objective learns from, if any; it is frozen, and stays in evaluation mode.
    """

    def __init__(self, diffusion: Diffusion, objective: Objective, teacher: Diffusion | None = None) -> None:
        super().__init__()
        diffusion.codec.requires_grad_(False).eval()
        self.diffusion = diffusion
        self.objective = objective
        self.teacher = None if teacher is None else teacher.requires_grad_(False).eval()

    def forward(
        self, x: Tensor, ids: Tensor | None, teacher_ids: Tensor | None, image: Tensor | None, *drawn: Tensor
    ) -> Loss:
        """The loss of some rows of `TrainingBatches`.

        Raises:
            ValueError: If the objective's loss cannot be differentiated, in training.
        """
        cond = _make_cond(self.diffusion, ids, image)
        teacher = None if self.teacher is None else _bound(self.teacher, teacher_ids, image, len(x))
        loss = self.objective.loss(self.diffusion.denoiser, x, cond, drawn, teacher)
        if self.training and torch.is_grad_enabled() and not loss.value.requires_grad:
            raise ValueError(
                f"`objective={name_of(type(self.objective))}` returned a loss that does not depend on the network's "
                "weights, so nothing can be learned. Compute it from the denoiser's output, without detaching it."
            )
        return loss

    def train(self, mode: bool = True) -> Self:
        """Set training or evaluation mode, except for the codec and the teacher."""
        super().train(mode)
        self.diffusion.codec.eval()
        if self.teacher is not None:
            self.teacher.eval()
        return self


def _make_cond(model: Diffusion, ids: Tensor | None, image: Tensor | None) -> Cond:
    cond: Cond = NOTHING if model.conditioner is None or ids is None else model.conditioner(ids)
    return cond.with_image(image)


def _bound(teacher: Diffusion, ids: Tensor | None, image: Tensor | None, count: int) -> Teacher:
    """The teacher with the conditions of a batch, encoded by its own conditioner."""
    cond = _make_cond(teacher, ids, image)
    nothing = None if teacher.conditioner is None else teacher.conditioner.nothing(count).to(teacher.device)
    return Teacher(teacher.denoiser.bind(cond), teacher.denoiser.bind_both(cond, _make_cond(teacher, nothing, image)))
