"""Low-rank adaptation (LoRA): weights stay frozen, and a difference of low rank is trained."""

from collections.abc import Iterator
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

ADAPTABLE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)  # layers whose weights are adapted


class LowRank(nn.Module):
    """``W + scale up down``, and W itself at the start (Hu et al. 2022, eq. 3).

    A convolution's weight is treated as the matrix (out, in k k). `up` starts at zero; `down` keeps the scale of its
    input. ``scale = 1 / sqrt(rank)`` lets one learning rate serve all ranks (Kalajdzievski 2023, theorem 3.2).

    Args:
        weight: The weight to adapt, of two or more dimensions.
        rank: Rank of the difference, >= 1; at most that of the matrix is used.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        rows, columns = len(weight), weight[0].numel()
        inner = min(rank, rows, columns)
        self.scale = scale(rank)
        self.up = nn.Parameter(torch.zeros(rows, inner))
        self.down = nn.Parameter(torch.randn(inner, columns) / sqrt(columns))

    def forward(self, weight: Tensor) -> Tensor:
        """The adapted weight, of the same shape."""
        return weight + (self.scale * self.up @ self.down).view_as(weight)


class RowDelta(nn.Module):
    """An embedding table with a trained difference for some of its rows, zero at the start.

    Args:
        weight: The table, (N, D).
        rows: Indices of the rows, (n,) int64.
    """

    rows: Tensor

    def __init__(self, weight: Tensor, rows: Tensor) -> None:
        super().__init__()
        self.register_buffer("rows", rows, persistent=False)
        self.difference = nn.Parameter(torch.zeros(len(rows), weight.shape[1]))

    def forward(self, weight: Tensor) -> Tensor:
        """The table with the difference added."""
        return weight.index_add(0, self.rows, self.difference)


def scale(rank: int) -> float:
    """The factor of the product of both matrices."""
    return 1 / sqrt(rank)


def adaptable_layers(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers whose weights can be adapted, by name."""
    for name, layer in network.named_modules():
        if isinstance(layer, ADAPTABLE):
            yield name, layer


def largest_rank(network: nn.Module) -> int:
    """The largest rank that an adapter of any of the network's layers can have."""
    weights = [layer.get_parameter("weight") for _, layer in adaptable_layers(network)]
    return max((min(len(weight), weight[0].numel()) for weight in weights), default=0)


def adapt(network: nn.Module, rank: int) -> None:
    """Freeze a network, and add a trainable difference to each adaptable layer; its output does not change yet."""
    network.requires_grad_(False)
    for _, layer in list(adaptable_layers(network)):
        assert isinstance(layer.weight, Tensor)
        parametrize.register_parametrization(layer, "weight", LowRank(layer.weight, rank))


def adapt_rows(table: nn.Module, rows: Tensor) -> None:
    """Make some rows of a frozen embedding trainable."""
    assert isinstance(table.weight, Tensor)
    parametrize.register_parametrization(table, "weight", RowDelta(table.weight, rows))


def lora_modules(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules that `adapt` and `adapt_rows` have added, by the name of the weight."""
    for name, layer in network.named_modules():
        if parametrize.is_parametrized(layer, "weight"):
            assert isinstance(layer.parametrizations, nn.ModuleDict)
            (difference,) = layer.parametrizations["weight"].children()
            yield f"{name}.weight".removeprefix("."), difference


def lora_parameters(module: nn.Module) -> list[Tensor]:
    """Parameters of all low-rank differences: `up` and `down` of each."""
    found = [part for part in module.modules() if isinstance(part, LowRank)]
    return [factor for part in found for factor in (part.up, part.down)]
