"""Muon (orthogonalised momentum) for weight matrices, AdamW for the rest."""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

from noisekiln.blocks.low_rank import lora_parameters
from noisekiln.distributed.exchange import compute_by_owners
from noisekiln.distributed.sharded import to_local
from noisekiln.machine.graphs import GraphedFunction
from noisekiln.optimizers.base import Network, OptimizerFactory, trainable_parameters

# Coefficients of the quintic Newton-Schulz iteration (Jordan et al. 2024): singular values end up around 1.
NEWTON_SCHULZ_A, NEWTON_SCHULZ_B, NEWTON_SCHULZ_C = 3.4445, -4.7750, 2.0315

LARGEST_GRAPHED = 2**23  # weights that one CUDA graph updates: it keeps their copies, and kernels of more are long


class MuonOptimizer(Optimizer):
    """Updates every weight matrix by the orthogonal matrix nearest to its momentum (Jordan et al. 2024).

    Convolutions are treated as matrices (out, in k k). Updates have the root mean square of AdamW's times `boost`, so
    that both use one learning rate (Liu et al. 2025, eq. 4). Similar weights are computed together in batched products.
    If weights are sharded, each process computes the updates of some of them. On an Nvidia GPU CUDA graphs launch the
    products of small weights.

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
        self._orthogonal = GraphedFunction(orthogonal_together, largest=LARGEST_GRAPHED)
        super().__init__(params, {"lr": lr, "boost": boost, "momentum": momentum, "iterations": iterations})

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As in torch; a copy has graphs of its own."""
        super().__setstate__(state)
        self._orthogonal = GraphedFunction(orthogonal_together, largest=LARGEST_GRAPHED)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]  # returns no loss
        """Update every weight that has a gradient; a closure is not called."""
        for group in self.param_groups:
            together: dict[Hashable, list[Tensor]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    together.setdefault(_computed_with(weight), []).append(weight)
            for weights in together.values():
                self._step_together(weights, group)

    def _step_together(self, weights: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        for weight in weights:
            if not self.state[weight]:
                self.state[weight]["mean"] = torch.zeros_like(weight)
        means = [self.state[weight]["mean"] for weight in weights]
        torch._foreach_lerp_(means, gradients, 1 - group["momentum"])
        nesterov_momentum = torch._foreach_lerp(gradients, means, group["momentum"])
        changes = compute_by_owners(
            partial(self._changes, group), nesterov_momentum, [_cost(weight) for weight in weights]
        )
        torch._foreach_add_([to_local(weight) for weight in weights], changes)

    def _changes(self, group: Mapping[str, Any], momenta: Sequence[Tensor]) -> list[Tensor]:
        """The changes of whole weights with these momenta, in a group of the optimizer."""
        views = [_in_order_of_memory(momentum) for momentum in momenta]
        indices: dict[tuple[int, int], list[int]] = {}
        for index, view in enumerate(views):
            indices.setdefault((view.shape[0], math.prod(view.shape[1:])), []).append(index)
        shapes_by_side: dict[int, list[tuple[int, int]]] = {}
        for shape in indices:
            shapes_by_side.setdefault(min(shape), []).append(shape)
        changes = list(momenta)
        for shapes in shapes_by_side.values():
            stacks = [torch.stack([views[index].reshape(shape) for index in indices[shape]]) for shape in shapes]
            for shape, steps in zip(shapes, self._orthogonal(stacks, group["iterations"]), strict=True):
                length = -group["lr"] * group["boost"] * 0.2 * math.sqrt(max(shape))
                for index, change in zip(indices[shape], steps * length, strict=True):
                    view = change.view(views[index].shape)
                    changes[index] = view if views[index] is momenta[index] else view.permute(0, 3, 1, 2)
        return changes


def _computed_with(weight: Tensor) -> Hashable:
    """Weights for which this is equal are computed together.

    On a GPU fewer, larger kernels are faster: only the smaller side must agree. On a CPU they gain nothing and need
    memory, so weights have one shape. Sharded ones are exchanged all at once.
    """
    if isinstance(weight, DTensor):
        return "sharded"
    shape = (weight.shape[0], math.prod(weight.shape[1:]))
    return shape if weight.device.type == "cpu" else min(shape)


def _cost(weight: Tensor) -> float:
    """About proportional to the operations of `orthogonal_together` for a weight."""
    small, large = sorted((weight.shape[0], math.prod(weight.shape[1:])))
    return float(small**2 * (large + 8 * small))


def _in_order_of_memory(weight: Tensor) -> Tensor:
    """On a GPU a convolution's weight in channels-last layout as (out, k, k, in), so that no kernel rearranges it.

    The order of columns changes only rounding; on a CPU it is always (out, in, k, k).
    """
    on_cpu, last = weight.device.type == "cpu", torch.channels_last
    rearranged = weight.ndim == 4 and not on_cpu and weight.is_contiguous(memory_format=last)
    return weight.permute(0, 2, 3, 1) if rearranged else weight


def orthogonal_together(stacks: Sequence[Tensor], iterations: int = 5) -> list[Tensor]:
    """The (semi-)orthogonal matrices nearest to these, roughly: singular values 0.7 to 1.2.

    Newton-Schulz, ``x <- (A + B g + C g^2) x`` with ``g = x x^T``, computed on the small square g alone, for all stacks
    at once: the factors commute with it, so their product is accumulated and applied to each wide x once.

    Args:
        stacks: Matrices of one shape each, (N, rows, columns); the smaller sides of all shapes are equal.
        iterations: Number of iterations.
    """
    tall = [stack.shape[1] > stack.shape[2] for stack in stacks]
    wide = [stack.mT if turned else stack for stack, turned in zip(stacks, tall, strict=True)]
    units = [x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7) for x in wide]
    products = _product_of_factors(torch.cat([x @ x.mT for x in units]), iterations).split([len(x) for x in units])
    nearest = [product @ x for product, x in zip(products, units, strict=True)]
    return [(x.mT if turned else x).contiguous() for x, turned in zip(nearest, tall, strict=True)]


def _product_of_factors(gram: Tensor, iterations: int) -> Tensor:
    """The product of all factors ``A + B g + C g^2``, where g becomes ``f g f`` after each factor f."""
    one = torch.eye(gram.shape[1], device=gram.device, dtype=gram.dtype).expand_as(gram)
    product = one
    for number in range(iterations):
        factor = torch.baddbmm(gram, gram, gram, beta=NEWTON_SCHULZ_B, alpha=NEWTON_SCHULZ_C)
        factor.add_(one, alpha=NEWTON_SCHULZ_A)
        product = factor @ product if number > 0 else factor
        if number < iterations - 1:
            gram = factor @ gram @ factor
    return product


def split_for_muon(module: nn.Module, network: Network) -> tuple[list[Tensor], list[Tensor]]:
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

    def __call__(self, module: nn.Module, network: Network) -> list[torch.optim.Optimizer]:  # noqa: D102
        inner, rest = split_for_muon(module, network)
        made: list[torch.optim.Optimizer] = []
        if rest:
            made.append(torch.optim.AdamW(rest, betas=(0.9, 0.99), weight_decay=0.0, fused=True))
        if inner:
            made.append(MuonOptimizer(inner, self.lr, self.boost, self.momentum, self.iterations))
        return made
