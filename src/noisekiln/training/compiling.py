"""Compiling the network, and running without if that fails."""

from collections.abc import Callable

import torch
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import CompileFailed


def compiled(network: nn.Module, device: str, ranks: Ranks | None = None) -> str | None:
    """Have it compiled at its first step, in all processes; or say why that cannot be, and leave it as it is."""
    why = None
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:
        why = str(error).strip().splitlines()[0]
    if (ranks or Ranks()).all_reduce_sum([why is not None])[
        0
    ]:  # a process that runs otherwise would not meet the others
        return why or "another process cannot"
    network.compile()
    return None


def or_eagerly(step: Callable[[], None], network: nn.Module) -> str | None:
    """Take a step; if its network cannot be compiled, say why, have it run as written from now on, and take it so."""
    try:
        step()
    except CompileFailed as error:
        why = str(error)
    else:
        return None
    network._compiled_call_impl = None
    step()  # only here: the error holds on to all that the first one had taken
    return why
