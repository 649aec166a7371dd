"""Notes on what recovery has changed in the steps of a run: a smaller micro-batch, a network that is not compiled."""

from collections.abc import Iterator

from noisekiln.errors import counted
from noisekiln.monitor.plain_copies import PlainCopies
from noisekiln.runs.events import Note
from noisekiln.training.compiling import NetworkCompiler
from noisekiln.training.trainer import Trainer


class StepChanges:
    """Compares the steps with those of the last call.

    Args:
        trainer: Trainer of the run.
        compiler: Compiler of the network.
        copies: Copies of the weights, which must know whether the network is compiled.
    """

    def __init__(self, trainer: Trainer, compiler: NetworkCompiler, copies: PlainCopies) -> None:
        self._trainer = trainer
        self._compiler = compiler
        self._copies = copies
        self._micro_batch_size = trainer.micro_batch_size
        self._graphs_failure = compiler.graphs_failure

    def notes(self) -> Iterator[Note]:
        """A note for each change since the last call."""
        if self._compiler.failure and self._copies.compiled:
            self._copies.compiled = False
            yield Note(f"the network is not compiled: {self._compiler.failure}")
        if self._compiler.graphs_failure != self._graphs_failure:
            self._graphs_failure = self._compiler.graphs_failure
            yield Note(f"the network does not run by CUDA graphs any more: {self._graphs_failure}")
        size = self._trainer.micro_batch_size
        if size < self._micro_batch_size:
            self._micro_batch_size = size
            images = counted(size, "image")
            yield Note(f"memory is short: from now on the micro-batch is {images}, with the same result")
