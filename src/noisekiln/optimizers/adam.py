"""Adam, as in the first diffusion papers."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from noisekiln.optimizers.base import Network, OptimizerFactory, trainable_parameters


@dataclass(frozen=True)
class Adam(OptimizerFactory):
    """Kingma & Ba 2015, with torch's fused step.

    Args:
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
    """

    lr: ClassVar[float] = 1e-4
    beta1: float = 0.9
    beta2: float = 0.999

    def __call__(self, module: nn.Module, network: Network) -> list[torch.optim.Optimizer]:  # noqa: D102
        return [torch.optim.Adam(trainable_parameters(module), betas=(self.beta1, self.beta2), fused=True)]
