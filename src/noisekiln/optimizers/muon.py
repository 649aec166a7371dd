"""Muon: momentum whose step is made orthogonal."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noisekiln.distributed.sharded import gather, shard_like

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024): singular values end up around 1.
A, B, C = 3.4445, -4.7750, 2.0315


class Muon(Optimizer):
    """Every weight matrix steps along the orthogonal matrix nearest to its momentum (Jordan et al. 2024).

    Convolutions count as matrices (out, in k k). Steps have the root mean square of AdamW's times `boost`, so
    that one rate serves both (Liu et al. 2025, eq. 4). Weights of one shape are treated together in batched products.

    Args:
        params: Weights with two or more dimensions.
        lr: Learning rate, as AdamW would have it.
        boost: How much larger the steps are than AdamW's at the same rate.
        momentum: Of the running mean of gradients, Nesterov's.
        iterations: Of Newton and Schulz.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 2e-3,
        boost: float = 2.5,
        momentum: float = 0.95,
        iterations: int = 5,
    ) -> None:
        super().__init__(params, {"lr": lr, "boost": boost, "momentum": momentum, "iterations": iterations})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        for group in self.param_groups:
            shapes: dict[tuple[int, int], list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes.setdefault((weight.shape[0], weight[0].numel()), []).append(weight)
            for shape, weights in shapes.items():
                self._step_together(weights, shape, group)

    def _step_together(self, weights: list[Tensor], shape: tuple[int, int], group: dict[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["mean"] = torch.zeros_like(weight)
        means = [self.state[weight]["mean"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = [gather(matrix) for matrix in torch._foreach_lerp(gradients, means, group["momentum"])]
        steps = orthogonal(torch.stack([matrix.reshape(shape) for matrix in ahead]), group["iterations"])
        length = -group["lr"] * group["boost"] * 0.2 * math.sqrt(max(shape))
        changes = [shard_like(step.view_as(w), w) for step, w in zip(steps * length, weights, strict=True)]
        torch._foreach_add_(weights, changes)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The (semi-)orthogonal matrices nearest to these, (N, rows, columns), roughly: singular values 0.7 to 1.2.

    Newton-Schulz, ``x <- (A + B g + C g^2) x`` with ``g = x x^T``, done on the small square g alone: the factors
    commute with it, so their product is gathered and applied to the wide x once.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.mT
    product = torch.eye(x.shape[1], device=x.device, dtype=x.dtype).expand_as(gram)
    one = product
    for _ in range(iterations):
        factor = A * one + torch.baddbmm(gram, gram, gram, beta=B, alpha=C)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    nearest: Tensor = x.mT if tall else x
    return nearest.contiguous()


def split_for_muon(module: nn.Module, network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a module that Muon trains, and the rest.

    Muon takes the weights of the `network`'s convolutions and linear layers, but for the first and the last
    convolution, which face pixels; AdamW takes those two, embeddings, norms and biases.
    """
    matrices = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    convolutions = [layer for layer in matrices if isinstance(layer, nn.Conv2d)]
    ends = convolutions[:1] + convolutions[-1:]
    inner = [layer.weight for layer in matrices if layer not in ends]
    taken = {id(weight) for weight in inner}
    return inner, [parameter for parameter in module.parameters() if id(parameter) not in taken]
