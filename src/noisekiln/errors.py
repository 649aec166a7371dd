"""Errors that carry their exit code; the command line prints each as one message."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

LONGEST_MESSAGE = 2000  # characters: about a screen
# Characters that a terminal obeys or hides: controls, directions of writing, line separators, tags; half of a pair.
UNPRINTABLE = re.compile(
    "[\\x00-\\x1f\\x7f-\\x9f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069\\ud800-\\udfff\\U000e0000-\\U000e007f]"
)


def counted(count: float, noun: str, plural: str = "") -> str:
    """A count with its noun, for messages: "1 image", "2,000 images"; `plural` where it is not the noun with an s."""
    number = f"{count:,}" if isinstance(count, int) else f"{count:g}"
    return f"{number} {noun if count == 1 else plural or f'{noun}s'}"


def printable(text: str) -> str:
    """One line of text for a terminal: characters that would control it are shown by number."""
    return UNPRINTABLE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def shorten(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Text that is too long, without its middle: the end of a message says what to do."""
    if len(text) <= longest:
        return text
    half = longest // 2
    return f"{text[:half]} ... ({len(text) - 2 * half:,} more characters) ... {text[-half:]}"


def reason_of(error: BaseException, longest: int = 200) -> str:
    """An error of another library inside of a message: its first line without the full stop, else its class."""
    line = str(error).strip().partition("\n")[0].rstrip(". ")
    return shorten(line, longest) or type(error).__name__


def class_and_reason(error: BaseException, longest: int = 200) -> str:
    """An error of a user's own code inside of a message: "KeyError: 'x'", or its class alone if it says nothing."""
    kind, reason = type(error).__name__, reason_of(error, longest)
    return kind if reason == kind else f"{kind}: {reason}"


def listed(names: Sequence[object], most: int = 30) -> str:
    """Names in a message, with commas: of many the first ones, "and 1,480 more"."""
    shown = ", ".join(shorten(str(name), 80) for name in names[:most])
    return f"{shown} and {len(names) - most:,} more" if len(names) > most else shown


class NoisekilnError(Exception):
    """An expected error: its text says what was given, why it cannot work, and what to do.

    Settings are named in backticks, as `` `lr` `` or `` `batch_size=8` ``; the command line shows them as flags.
    `exit_code` may be overridden.
    """

    exit_code: ClassVar[int] = 2


class DataError(NoisekilnError, ValueError):
    """The data cannot be used."""

    exit_code: ClassVar[int] = 3

    def __init__(self, subject: str, reason: str, remedy: str) -> None:
        """Three parts, each without its full stop: they print as "subject: reason. Remedy."."""
        super().__init__(subject, reason, remedy)  # all as args: the error survives pickling, so it can leave a worker

    def __str__(self) -> str:
        """The whole message in one line."""
        subject, reason, remedy = self.args
        return f"{subject}: {reason}. {remedy}."


class CodeNotAllowed(NoisekilnError, ValueError):
    """A model or a run from disk names Python code that the user has not allowed.

    Args:
        file: The Python file.
        place: What names it: a file or a folder.
    """

    def __init__(self, file: Path, place: object = "A file") -> None:
        super().__init__(file, place)
        self.file, self.place = file, place

    def __str__(self) -> str:
        """The whole message in one line."""
        return (
            f"{self.place} runs the Python code of {self.file}, which could do anything, and the settings do not name "
            "it. If you trust it, name it too, with the same settings (such as `backbone=FILE.py:Class`), or allow all "
            "such code with `allow_code`."
        )


class Diverged(NoisekilnError, RuntimeError):
    """Loss or gradient were not finite in too many steps, or a weight is not; the last saved checkpoint is still good.

    Args:
        what: What was not finite, without a full stop.
        losses: Losses that the module returned in the last of these steps, one per micro-batch.
        remedy: Next step for the user, without a full stop.
    """

    exit_code: ClassVar[int] = 4

    def __init__(self, what: str, losses: Sequence[Any] = (), remedy: str = "Use a lower learning rate") -> None:
        super().__init__(f"{what}. {remedy}.")
        self.what, self.losses = what, losses


class NotFinite(NoisekilnError, ValueError):
    """Sampling produced NaN or infinite values."""


class SaveFailed(NoisekilnError, RuntimeError):
    """A file could not be written, mostly because the disk is full; what was saved before is intact."""

    exit_code: ClassVar[int] = 5

    @classmethod
    def of(
        cls,
        what: str,
        why: object,
        intact: str = "What was saved before is intact",
        remedy: str = "run the same call or command again to resume",
    ) -> "SaveFailed":
        """The error for a file that could not be written.

        Args:
            what: The file and its place: "The checkpoint after 80 images could not be written to runs/a".
            why: Reason that the system gives; of an OSError, its text is used.
            intact: State of earlier files, without a full stop.
            remedy: Next step once there is space, without a full stop.
        """
        reason = why.strerror if isinstance(why, OSError) and why.strerror else why
        return cls(f"{what}: {str(reason).rstrip('.')}. {intact}. Free some space or check the disk, then {remedy}.")


class LostRank(NoisekilnError, RuntimeError):
    """A process died or hangs, and the others cannot continue without it."""

    exit_code: ClassVar[int] = 6


class RanksDiffer(NoisekilnError, RuntimeError):
    """Processes that should hold the same weights do not: a device is faulty, or their software differs."""

    exit_code: ClassVar[int] = 6


class BatchTooLarge(NoisekilnError, RuntimeError):
    """A micro-batch did not fit into the memory of some process."""


class CompileFailed(NoisekilnError, RuntimeError):
    """The network cannot be compiled, in this process or in another one."""


class WouldOverwrite(NoisekilnError, ValueError):
    """A folder for results holds other files, which are not changed."""

    def __init__(self, folder: Path, content: str) -> None:
        """The error names the folder and what it holds, such as "files that are no samples (a.txt)"."""
        super().__init__(folder, content)

    def __str__(self) -> str:
        """The whole message in one line."""
        folder, content = self.args
        return f"{folder} holds {content}, which might be overwritten. Nothing was changed. Give another `out`."
