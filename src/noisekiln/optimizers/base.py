"""The interface of optimizer choices."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone


class OptimizerFactory(ABC):
    """Settings of an optimizer, and how it is made for a module. A frozen dataclass."""

    lr: ClassVar[float]  # default peak learning rate for a network that is trained from scratch

    @abstractmethod
    def __call__(self, module: nn.Module, network: Backbone) -> list[torch.optim.Optimizer]:
        """Optimizers that together step all trained parameters, each of them one; the trainer sets their `lr`.

        Args:
            module: All that is trained; parameters that do not require gradients are left out.
            network: The backbone in it.
        """


def trained(module: nn.Module, besides: Iterable[Tensor] = ()) -> list[Tensor]:
    """The parameters of a module that require gradients, without some of them."""
    left_out = {id(parameter) for parameter in besides}
    return [each for each in module.parameters() if each.requires_grad and id(each) not in left_out]
