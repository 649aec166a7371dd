"""What is trained: a model and its objective together."""

from torch import Tensor, nn

from noisekiln.conditions import NOTHING
from noisekiln.model.diffusion import Diffusion
from noisekiln.objectives.base import Loss, Objective


class Learner(nn.Module):
    """All that is trained: the model, and what the objective learns along with it.

    Args:
        diffusion: The model.
        objective: Its loss.
    """

    def __init__(self, diffusion: Diffusion, objective: Objective) -> None:
        super().__init__()
        self.diffusion = diffusion
        self.objective = objective

    def forward(self, x: Tensor, ids: Tensor | None, image: Tensor | None, *drawn: Tensor) -> Loss:
        """The loss of some rows of `TrainingBatches`."""
        conditioner, cond = self.diffusion.conditioner, NOTHING
        if conditioner is not None and ids is not None:
            cond = conditioner(ids)
        return self.objective.loss(self.diffusion.denoiser, x, cond._replace(image=image), drawn)
