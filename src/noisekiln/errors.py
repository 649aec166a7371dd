"""Errors that the command line turns into one message and an exit code."""

from collections.abc import Sequence
from typing import Any, ClassVar


class DataError(ValueError):
    """The data cannot be used: what it was, why that cannot work, and what to do."""

    exit_code: ClassVar[int] = 3

    def __init__(self, given: str, why: str, do: str) -> None:
        """Three parts, each without its full stop: they print as "given: why. Do."."""
        super().__init__(given, why, do)  # all three as args: the error survives pickling, so it can leave a worker

    def __str__(self) -> str:
        """The whole message in one line."""
        given, why, do = self.args
        return f"{given}: {why}. {do}."


class Diverged(RuntimeError):
    """Loss or gradient were not finite in too many steps, or a weight is not; the weights on disk are from before.

    Attributes:
        losses: What the module returned in the last of these steps, micro-batch by micro-batch.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, losses: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.losses = losses


class SaveFailed(RuntimeError):
    """Something could not be written, mostly because the disk is full; what was saved before is intact."""

    exit_code: ClassVar[int] = 5


class LostRank(RuntimeError):
    """A process died or hangs, and the others cannot go on without it."""

    exit_code: ClassVar[int] = 6


class BatchTooLarge(RuntimeError):
    """A micro-batch did not fit into the memory of some process."""

    exit_code: ClassVar[int] = 2


class CompileFailed(RuntimeError):
    """The network cannot be compiled, here or in another process."""

    exit_code: ClassVar[int] = 2
