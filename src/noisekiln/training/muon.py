"""Muon: momentum whose step is made orthogonal."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024): singular values end up around 1.
A, B, C = 3.4445, -4.7750, 2.0315


class Muon(Optimizer):
    """Every weight matrix steps along the orthogonal matrix nearest to its momentum (Jordan et al. 2024).

    Convolutions count as matrices (out, in k k). Steps have the root mean square of AdamW's, so that the same rates
    serve both (Liu et al. 2025, eq. 4). Weights of one shape are treated together in batched products.

    Args:
        params: Weights with two or more dimensions.
        lr: Learning rate.
        momentum: Of the running mean of gradients, Nesterov's.
        iterations: Of Newton and Schulz.
    """

    def __init__(self, params: Iterable[Tensor], lr: float = 2e-3, momentum: float = 0.95, iterations: int = 5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "iterations": iterations})

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
        means = [self.state[w].setdefault("mean", torch.zeros_like(w)) for w in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        ahead = torch._foreach_lerp(gradients, means, group["momentum"])
        steps = orthogonal(torch.stack([matrix.reshape(shape) for matrix in ahead]), group["iterations"])
        length = -group["lr"] * 0.2 * math.sqrt(max(shape))
        torch._foreach_add_(weights, [step.view_as(w) for step, w in zip(steps * length, weights, strict=True)])


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The (semi-)orthogonal matrices nearest to these, (N, rows, columns), roughly: singular values 0.7 to 1.2."""
    wide = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices
    x = wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=B, alpha=C), x, beta=A)
    nearest: Tensor = x.mT if matrices.shape[1] > matrices.shape[2] else x
    return nearest.contiguous()


def split_for_muon(module: nn.Module, network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """The parameters of a module that Muon trains, and the rest.

    Muon takes the convolutions of the `network` within, but for the first and the last, which face pixels; AdamW
    takes those, embeddings, modulations, norms and biases.
    """
    inner = [layer.weight for layer in network.modules() if isinstance(layer, nn.Conv2d)][1:-1]
    taken = {id(weight) for weight in inner}
    return inner, [parameter for parameter in module.parameters() if id(parameter) not in taken]
