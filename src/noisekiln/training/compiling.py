"""Speed of the network: torch.compile and CUDA graphs, with eager mode as fallback."""

from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import CompileFailed, reason_of
from noisekiln.machine.graphs import GraphedNetwork

Result = TypeVar("Result")


class NetworkCompiler:
    """Compiles a network in all processes or in none; if that fails, runs it eagerly and stores the reason.

    A single process on an Nvidia GPU can replay the network's kernels by CUDA graphs, compiled or not.

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
        self._graphs_failure: str | None = None

    @property
    def active(self) -> bool:
        """Whether the network is compiled, or will be at its first call."""
        call = self.network._compiled_call_impl
        return call is not None and (not isinstance(call, GraphedNetwork) or call.compiled is not None)

    @property
    def graphs_failure(self) -> str | None:
        """Reason why the network does not run by CUDA graphs, if they were requested."""
        call = self.network._compiled_call_impl
        return call.failure if isinstance(call, GraphedNetwork) else self._graphs_failure

    @property
    def failures(self) -> list[str]:
        """What was requested and has failed, one line each."""
        lines = []
        if self.failure is not None:
            lines.append(f"the network is not compiled: {self.failure}")
        if self.graphs_failure is not None:
            lines.append(f"the network does not run by CUDA graphs: {self.graphs_failure}")
        return lines

    def use(self, way: str, *, static_graph: bool = True) -> None:
        """Run the network as the setting `compile` says: "no", "graphs", or "yes".

        Args:
            way: The setting.
            static_graph: Whether the network says that its operations depend on shapes alone. A compiled network runs
                by CUDA graphs only then; "graphs" always tries.
        """
        if way == "yes":
            self.compile()
        if way == "graphs" or (way == "yes" and static_graph and self._why_no_graphs() is None):
            self.use_graphs()

    def use_graphs(self) -> None:
        """Run the network by CUDA graphs, compiled or not; if it cannot be, `graphs_failure` says why."""
        self._graphs_failure = self._why_no_graphs()
        if self._graphs_failure is None:
            compiled = self.network._compiled_call_impl
            self.network._compiled_call_impl = GraphedNetwork(self.network, training=True, compiled=compiled)

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
        """Do not run the compiled network from now on; CUDA graphs stay if they were in use."""
        graphs = isinstance(self.network._compiled_call_impl, GraphedNetwork)
        self.failure, self.network._compiled_call_impl = reason, None
        if graphs:
            self.use_graphs()

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

    def _why_no_graphs(self) -> str | None:
        if self.device != "cuda":
            return f"they need an Nvidia GPU, and the device is {self.device}"
        if self.ranks.world_size > 1:
            return f"they are for a single process, and {self.ranks.world_size} train together"
        return None


def _why_nothing_compiles(device: str) -> str | None:
    """Reason why this machine cannot compile, such as a missing C++ compiler; None if it can."""
    try:
        torch.compile(lambda x: torch.sin(x) + 1)(torch.ones(8, device=device))
    except Exception as error:  # errors of the compiler, of its back end, and of what they call: any class
        return reason_of(error)
    return None
