"""The interface of optimizer choices."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn


class Network(Protocol):
    """What an optimizer needs to know of a network: a backbone, or a codec that is trained."""

    def modules(self) -> Iterator[nn.Module]:
        """All of its modules."""

    def edges(self) -> list[nn.Module]:
        """The layers that face images, x or the output."""


class OptimizerFactory(ABC):
    """Settings of an optimizer, and a call that makes it for a module. A frozen dataclass."""

    lr: ClassVar[float]  # default peak learning rate for a network that is trained from scratch

    @abstractmethod
    def __call__(self, module: nn.Module, network: Network) -> list[torch.optim.Optimizer]:
        """Optimizers that together update every trained parameter, each parameter once; the trainer sets their `lr`.

        Args:
            module: The module to train; parameters that do not require gradients are left out.
            network: The network in it.
        """


def trainable_parameters(module: nn.Module, exclude: Iterable[Tensor] = ()) -> list[Tensor]:
    """The parameters of a module that require gradients, without those in `exclude`."""
    left_out = {id(parameter) for parameter in exclude}
    return [each for each in module.parameters() if each.requires_grad and id(each) not in left_out]
