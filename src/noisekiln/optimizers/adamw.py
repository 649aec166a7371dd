"""AdamW, Adam with decoupled weight decay."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from noisekiln.optimizers.base import Network, OptimizerFactory, trainable_parameters


@dataclass(frozen=True)
class AdamW(OptimizerFactory):
    """Loshchilov & Hutter 2019, with torch's fused step.

    Args:
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        weight_decay: Share of a weight that is removed in a step, per unit of learning rate.
    """

    lr: ClassVar[float] = 1e-3
    beta1: float = 0.9
    beta2: float = 0.99
    weight_decay: float = 0.0

    def __call__(self, module: nn.Module, network: Network) -> list[torch.optim.Optimizer]:  # noqa: D102
        betas = (self.beta1, self.beta2)
        return [
            torch.optim.AdamW(trainable_parameters(module), betas=betas, weight_decay=self.weight_decay, fused=True)
        ]
