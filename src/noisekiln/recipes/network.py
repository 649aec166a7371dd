"""What is done to a network for training, whatever network it is."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch._dynamo.exc import TorchDynamoException
from torch.utils.checkpoint import checkpoint


def blocks_of(network: nn.Module) -> list[nn.Module]:
    """The parts that it calls one after the other: the innermost entries of its lists, and its sequences."""
    blocks: list[nn.Module] = []
    for child in network.children():
        if isinstance(child, nn.Sequential):
            blocks.append(child)
        elif isinstance(child, nn.ModuleList):
            blocks += [part for entry in child for part in blocks_of(entry) or [entry]]
        else:
            blocks += blocks_of(child)
    return [block for block in blocks if any(True for _ in block.parameters())]


def recompute(network: nn.Module) -> None:
    """Have its blocks forget what they computed, and compute it again in the backward pass (Chen et al. 2016).

    Memory falls to that of one block and what passes between blocks; a step takes about a third longer.
    """
    for block in blocks_of(network):
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)


def compiled(network: nn.Module, device: str) -> str | None:
    """Have it compiled at its first step; or say why that cannot be here, and leave it as it is."""
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:
        return str(error).strip().splitlines()[0]
    network.compile()
    return None


def or_eagerly(step: Callable[[], None]) -> str | None:
    """Take a step; if its network cannot be compiled, say why, have all run as written from now on, and take it so."""
    try:
        step()
    except TorchDynamoException as error:
        torch.compiler.set_stance("force_eager")
        step()
        return " ".join(str(error).split("\n")[:2])  # which part of torch, and what it said
    return None
