"""Muon (orthogonalised momentum) for weight matrices, AdamW for the rest."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.low_rank import lora_parameters
from noisekiln.distributed.sharded import gather, shard_like
from noisekiln.optimizers.base import OptimizerFactory, trainable_parameters

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024): singular values end up around 1.
NEWTON_SCHULZ_A, NEWTON_SCHULZ_B, NEWTON_SCHULZ_C = 3.4445, -4.7750, 2.0315


class MuonOptimizer(Optimizer):
    """Updates every weight matrix by the orthogonal matrix nearest to its momentum (Jordan et al. 2024).

    Convolutions are treated as matrices (out, in k k). Updates have the root mean square of AdamW's times `boost`, so
    that both use one learning rate (Liu et al. 2025, eq. 4). Weights of one shape are computed together in batched
    products.

    Args:
        params: Weights with two or more dimensions.
        lr: Learning rate, in the units of AdamW's.
        boost: Ratio of the updates to AdamW's at the same rate.
        momentum: Decay of the running mean of gradients (Nesterov momentum).
        iterations: Number of Newton-Schulz iterations.
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
        """Update every weight that has a gradient."""
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
        nesterov_momentum = [gather(matrix) for matrix in torch._foreach_lerp(gradients, means, group["momentum"])]
        steps = orthogonal(torch.stack([matrix.reshape(shape) for matrix in nesterov_momentum]), group["iterations"])
        length = -group["lr"] * group["boost"] * 0.2 * math.sqrt(max(shape))
        changes = [shard_like(step.view_as(w), w) for step, w in zip(steps * length, weights, strict=True)]
        torch._foreach_add_(weights, changes)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """The (semi-)orthogonal matrices nearest to these, (N, rows, columns), roughly: singular values 0.7 to 1.2.

    Newton-Schulz, ``x <- (A + B g + C g^2) x`` with ``g = x x^T``, computed on the small square g alone: the factors
    commute with it, so their product is accumulated and applied to the wide x once.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    gram = x @ x.mT
    product = torch.eye(x.shape[1], device=x.device, dtype=x.dtype).expand_as(gram)
    one = product
    for _ in range(iterations):
        factor = NEWTON_SCHULZ_A * one + torch.baddbmm(gram, gram, gram, beta=NEWTON_SCHULZ_B, alpha=NEWTON_SCHULZ_C)
        product = factor @ product
        gram = factor @ gram @ factor
    x = product @ x
    nearest: Tensor = x.mT if tall else x
    return nearest.contiguous()


def split_for_muon(module: nn.Module, network: Backbone) -> tuple[list[Tensor], list[Tensor]]:
    """The trained parameters of a module that Muon updates, and the rest.

    Muon updates the factors of low-rank adapters or, without adapters, the weights of the `network`'s convolutions and
    linear layers, except its `edges`, which face x; AdamW updates those, embeddings, norms and biases.
    """
    edges = network.edges()
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear) and layer not in edges]
    inner = lora_parameters(module) or [layer.weight for layer in layers if layer.weight.requires_grad]
    return inner, trainable_parameters(module, exclude=inner)


@dataclass(frozen=True)
class Muon(OptimizerFactory):
    """`MuonOptimizer` for the network's matrices, AdamW for everything else (see `split_for_muon`).

    Args:
        boost: Ratio of Muon's updates to AdamW's at the same learning rate.
        momentum: Decay of the running mean of gradients.
        iterations: Number of Newton-Schulz iterations.
    """

    lr: ClassVar[float] = 2e-3
    boost: float = 2.5
    momentum: float = 0.95
    iterations: int = 5

    def __call__(self, module: nn.Module, network: Backbone) -> list[torch.optim.Optimizer]:  # noqa: D102
        inner, rest = split_for_muon(module, network)
        made: list[torch.optim.Optimizer] = []
        if rest:
            made.append(torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0, fused=True))
        if inner:
            made.append(MuonOptimizer(inner, self.lr, self.boost, self.momentum, self.iterations))
        return made
