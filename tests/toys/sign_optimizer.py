"""An optimizer: every weight steps by the learning rate against the sign of its gradient."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from noisekiln.backbones.base import Backbone
from noisekiln.optimizers.base import OptimizerFactory, trainable_parameters


class SignDescent(torch.optim.Optimizer):
    def __init__(self, params: object, lr: float = 1e-3) -> None:
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: object = None) -> None:
        for group in self.param_groups:
            for weight in group["params"]:
                state = self.state[weight]
                state["steps"] = state.get("steps", torch.zeros(())) + 1
                weight.sub_(group["lr"] * weight.grad.sign())


@dataclass(frozen=True)
class Sign(OptimizerFactory):
    lr: ClassVar[float] = 1e-3

    def __call__(self, module: nn.Module, network: Backbone) -> list[torch.optim.Optimizer]:
        return [SignDescent(trainable_parameters(module))]
