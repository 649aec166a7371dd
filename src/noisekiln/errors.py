"""Errors that carry their exit code; the command line prints each as one message."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar


class NoisekilnError(Exception):
    """An error that was foreseen: its text says what was given, why it cannot work, and what to do.

    Settings are named in backticks, as `` `lr` `` or `` `batch_size=8` ``; the command line shows them as options.
    """

    exit_code: ClassVar[int] = 2


class DataError(NoisekilnError, ValueError):
    """The data cannot be used."""

    exit_code: ClassVar[int] = 3

    def __init__(self, given: str, why: str, do: str) -> None:
        """Three parts, each without its full stop: they print as "given: why. Do."."""
        super().__init__(given, why, do)  # all three as args: the error survives pickling, so it can leave a worker

    def __str__(self) -> str:
        """The whole message in one line."""
        given, why, do = self.args
        return f"{given}: {why}. {do}."


class Diverged(NoisekilnError, RuntimeError):
    """Loss or gradient were not finite in too many steps, or a weight is not; the weights on disk are from before.

    Attributes:
        losses: What the module returned in the last of these steps, micro-batch by micro-batch.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, message: str, losses: Sequence[Any] = ()) -> None:
        super().__init__(message)
        self.losses = losses


class SaveFailed(NoisekilnError, RuntimeError):
    """Something could not be written, mostly because the disk is full; what was saved before is intact."""

    exit_code: ClassVar[int] = 5

    @classmethod
    def of(cls, what: str, why: object, intact: str = "What was saved before is intact") -> "SaveFailed":
        """The error for something that could not be written.

        Args:
            what: What it was, and where to: "The checkpoint after 80 images could not be written to runs/a".
            why: What the system says of it; of an OSError, its text.
            intact: What is left, without a full stop.
        """
        reason = why.strerror if isinstance(why, OSError) and why.strerror else why
        return cls(
            f"{what}: {str(reason).rstrip('.')}. {intact}. Free some space or check the disk, then run the same again "
            "to resume."
        )


class LostRank(NoisekilnError, RuntimeError):
    """A process died or hangs, and the others cannot go on without it."""

    exit_code: ClassVar[int] = 6


class RanksDiffer(NoisekilnError, RuntimeError):
    """Processes that should hold the same weights do not: a device is faulty, or their software differs."""

    exit_code: ClassVar[int] = 6


class BatchTooLarge(NoisekilnError, RuntimeError):
    """A micro-batch did not fit into the memory of some process."""


class CompileFailed(NoisekilnError, RuntimeError):
    """The network cannot be compiled, here or in another process."""


class WouldOverwrite(NoisekilnError, ValueError):
    """A folder for results holds something else, which is left as it is."""

    def __init__(self, folder: Path, content: str) -> None:
        """The error names the folder and what it holds, such as "files that are no samples (a.txt)"."""
        super().__init__(folder, content)

    def __str__(self) -> str:
        """The whole message in one line."""
        folder, content = self.args
        return f"{folder} holds {content}, which might be overwritten. Nothing was changed. Give another `out`."
