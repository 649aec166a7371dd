"""Errors in a user's own component: the setting, the file and the line that they come from."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from noisekiln.components.registry import components_of_file
from noisekiln.errors import NoisekilnError, class_and_reason

SETTINGS = {"conditioners": "cond", "logs": "curves", "inverse": "method"}  # where the setting is not named by its room
MAX_LENGTH = 300


def explain_own_code(error: BaseException) -> str | None:
    """The message for an error in the Python file of a user's component; None for any other error.

    Args:
        error: An error that was raised; its traceback shows whether the component's code was running. An error of
            noisekiln explains itself, so it is None here.
    """
    if isinstance(error, NoisekilnError):
        return None
    for frame, line in reversed(list(traceback.walk_tb(error.__traceback__))):
        code = frame.f_code
        components = components_of_file(Path(code.co_filename))
        if not components:
            continue
        named = code.co_qualname.partition(".")[0]
        room, spec = components.get(named) or next(iter(components.values()))
        setting = SETTINGS.get(room, room.removesuffix("s"))
        what = class_and_reason(error, MAX_LENGTH)
        file = spec.rpartition(":")[0]
        return (
            f"`{setting}={spec}` raised {what}. The error comes from {file}:{line}, in {code.co_name}. "
            f"Correct the file, or give another `{setting}`."
        )
    return None


@contextmanager
def noting_own_code() -> Iterator[None]:
    """Add the message of `explain_own_code` as a note to an error that passes; the error itself is not changed."""
    try:
        yield
    except Exception as error:  # a note for errors of any class; all are raised again
        message = explain_own_code(error)
        if message is not None:
            error.add_note(message)
        raise
