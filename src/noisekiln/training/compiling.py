"""Compilation of the network by torch.compile, with eager mode as fallback."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import CompileFailed

Result = TypeVar("Result")


class NetworkCompiler:
    """Compiles a network in all processes or in none; if that fails, runs it eagerly and stores the reason.

    Args:
        network: The network, which is changed in place: a compiled one keeps its class and its parameters' names.
        device: Device of the network.
        ranks: The processes that train together.

    Attributes:
        failure: Reason why compilation failed; None if it was not requested or has not failed.
    """

    def __init__(self, network: nn.Module, device: str, ranks: Ranks | None = None) -> None:
        self.network = network
        self.device = device
        self.ranks = ranks or Ranks()
        self.failure: str | None = None

    @property
    def active(self) -> bool:
        """Whether the network is compiled, or will be at its first call."""
        return self.network._compiled_call_impl is not None

    def compile(self) -> None:
        """Compile the network at its first call, separately for each shape; if it cannot be, `failure` says why."""
        failure = _why_nothing_compiles(self.device)
        # Ranks whose networks differ would wait for each other in different places.
        if self.ranks.all_reduce_sum([failure is not None]) != [0]:
            self.failure = failure or "another process cannot compile it"
            return
        # In its deterministic mode, the compiler does not choose kernels by their speed.
        options = {"deterministic": True} if torch.are_deterministic_algorithms_enabled() else None
        self.network.compile(dynamic=False, options=options)

    def run_eagerly(self, reason: str) -> None:
        """Run the network eagerly from now on."""
        self.failure, self.network._compiled_call_impl = reason, None

    def with_fallback(self, step: Callable[[], Result]) -> Result:
        """The result of a step; if the network fails to compile in it, the step is repeated eagerly."""
        try:
            return step()
        except CompileFailed as error:
            reason = str(error)
        self.run_eagerly(reason)
        return step()  # only here: the error keeps the memory of the first attempt

    def steps_with_fallback(self, steps: Callable[[], Iterator[Result]]) -> Iterator[Result]:
        """All steps of a loop; if the network fails to compile in one, the loop is started again eagerly.

        A compiled network may still fail later: a micro-batch of another size is compiled separately.

        Args:
            steps: Function that starts or continues the loop, such as `Trainer.run`.
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
    """Reason why this machine cannot compile, such as a missing C++ compiler; None if it can."""
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:  # errors of the compiler, of its back end, and of what they call: any class
        return str(error).strip().splitlines()[0]
    return None
