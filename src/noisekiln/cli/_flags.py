"""Settings in messages, shown as options of the running command."""

import re
import shlex
import sys

import typer
from typer.core import TyperArgument, TyperCommand, TyperGroup, TyperOption
from typer.main import get_command

SETTING = re.compile(r"`([a-z][a-z0-9_]*)(?:=([^`]*))?`")  # `lr`, `batch_size=8`


def with_flags(text: str, app: typer.Typer) -> str:
    """A message with its settings as options of the running command: `` `batch_size=8` `` as ``--batch-size 8``.

    A setting that only `train` has is shown as its option; other text that is no option of the command is not changed.

    Args:
        text: The message.
        app: All commands; the running one is named on the command line.
    """
    found = SETTING.search(text)
    command = running_command(app) if found else None
    if command is None:
        return text
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    training = [each for each in group.commands["train"].params if isinstance(each, TyperOption)]
    parameters = {parameter.name: parameter for parameter in (*training, *command.params)}
    return SETTING.sub(lambda match: _flag(match, parameters.get(match[1])), text)


def running_command(app: typer.Typer) -> TyperCommand | None:
    """The command that the command line names, if any."""
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    word = next((word for word in sys.argv[1:] if not word.startswith("-")), "")
    command = group.commands.get(word)
    return command if isinstance(command, TyperCommand) else None


def _flag(match: re.Match[str], parameter: object) -> str:
    """A setting as an option, or an argument by its name in the help."""
    value = match[2]
    if isinstance(parameter, TyperArgument) and value is None:
        return (parameter.name or "").upper()
    if not isinstance(parameter, TyperOption):
        return match[0]
    if parameter.is_flag:
        return ("no " if value == "False" else "") + parameter.opts[0]
    flag = next((each for each in parameter.opts if each.startswith("--")), parameter.opts[0])
    return flag if value is None else f"{flag} {shlex.quote(value)}"
