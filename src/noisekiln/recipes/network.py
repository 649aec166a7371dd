"""What is done to a network for training, whatever network it is."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from noisekiln.training.gradients import Uncompiled
from noisekiln.training.peers import Peers


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


def compiled(network: nn.Module, device: str, peers: Peers | None = None) -> str | None:
    """Have it compiled at its first step, in all processes; or say why that cannot be, and leave it as it is."""
    why = None
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:
        why = str(error).strip().splitlines()[0]
    if (peers or Peers()).summed([why is not None])[0]:  # a process that runs otherwise would not meet the others
        return why or "another process cannot"
    network.compile()
    return None


def or_eagerly(step: Callable[[], None], network: nn.Module) -> str | None:
    """Take a step; if its network cannot be compiled, say why, have it run as written from now on, and take it so."""
    try:
        step()
    except Uncompiled as error:
        why = str(error)
    else:
        return None
    network._compiled_call_impl = None
    step()  # only here: the error holds on to all that the first one had taken
    return why
