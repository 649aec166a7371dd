"""Compilation of the network by torch.compile, with eager mode to fall back to."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import CompileFailed

Result = TypeVar("Result")


class NetworkCompiler:
    """Compiles a network in all processes or in none; if that fails, runs it eagerly and knows why.

    Args:
        network: The network, which is changed in place: a compiled one keeps its class and its parameters' names.
        device: Where it runs.
        ranks: The processes that train together.

    Attributes:
        failure: Why it runs eagerly although it was to be compiled; None if it was not, or is compiled.
    """

    def __init__(self, network: nn.Module, device: str, ranks: Ranks | None = None) -> None:
        self.network, self.device, self.ranks = network, device, ranks or Ranks()
        self.failure: str | None = None

    @property
    def active(self) -> bool:
        """Whether the network is compiled, or will be at its first call."""
        return self.network._compiled_call_impl is not None

    def compile(self) -> None:
        """Have the network compiled at its first call, for each shape anew; otherwise `failure` says why not."""
        failure = _why_nothing_compiles(self.device)
        # Ranks whose networks differ would wait for each other in different places.
        if self.ranks.all_reduce_sum([failure is not None]) != [0]:
            self.failure = failure or "another process cannot"
            return
        self.network.compile(dynamic=False)

    def run_eagerly(self, reason: str) -> None:
        """Run the network eagerly from now on."""
        self.failure, self.network._compiled_call_impl = reason, None

    def with_fallback(self, step: Callable[[], Result]) -> Result:
        """The result of a step; if the network fails to compile in it, it is taken again eagerly."""
        try:
            return step()
        except CompileFailed as error:
            reason = str(error)
        self.run_eagerly(reason)
        return step()  # only here: the error holds on to the memory of the first try

    def steps_with_fallback(self, steps: Callable[[], Iterator[Result]]) -> Iterator[Result]:
        """All steps of a loop; if the network fails to compile in one, the loop is entered again eagerly.

        A network that was compiled may still fail later: a micro-batch of another size is compiled anew.

        Args:
            steps: Begins the loop where it stands, such as `Trainer.run`.
        """
        while True:
            try:
                yield from steps()
                return
            except CompileFailed as error:
                if not self.active:
                    raise
                reason = str(error)
            self.run_eagerly(reason)


def _why_nothing_compiles(device: str) -> str | None:
    """Why nothing can be compiled here, such as a missing C++ compiler; None if it can."""
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:
        return str(error).strip().splitlines()[0]
    return None
