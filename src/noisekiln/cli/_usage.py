"""Messages for command lines that cannot be read: an unknown option, a missing argument, too many of them."""

from typing import Any

import typer

UsageError: Any = typer.BadParameter.__base__  # the class of all such errors, which typer does not name
LONGEST = 400  # characters: a shell may have put thousands of names in place of a *
MANY_NAMES = "Did the shell put names in place of a *? Give the folder itself, or one name."


def explain_usage(error: Any) -> list[str]:
    """Lines for an error of a command line: how the command is used, and what is wrong.

    Args:
        error: The error, a `UsageError`.
    """
    from noisekiln.errors import shorten

    text = shorten(" ".join(str(error.format_message()).split()), LONGEST).rstrip(".")
    remedy = [MANY_NAMES] if "extra argument" in text else []
    if error.ctx is None:
        return [f"{text}."]
    usage = [" ".join(error.ctx.get_usage().split())]
    return [*usage, " ".join([f"{text}.", *remedy, f"Try {error.ctx.command_path} --help."])]
