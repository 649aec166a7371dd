"""Consent to run the Python files that a model or a run from disk names: code that its author wrote, not its user."""

from collections.abc import Mapping
from pathlib import Path

from noisekiln.components.spec import python_file
from noisekiln.errors import CodeNotAllowed


def python_files(named: object) -> set[Path]:
    """The Python files of all specs in a value; mappings and lists are searched.

    Args:
        named: A spec, settings by name, or the content of a `model.json`.
    """
    if isinstance(named, Mapping):
        named = list(named.values())
    if isinstance(named, list | tuple):
        return set().union(*map(python_files, named))
    file = python_file(named) if isinstance(named, str) else None
    return set() if file is None else {file.resolve()}


def check_consent(place: object, named: object, requested: object = None) -> None:
    """Check that the user has named every Python file that something from disk names.

    Args:
        place: The file or folder, for the message.
        named: What it names; see `python_files`.
        requested: What the user has named.

    Raises:
        CodeNotAllowed: If it names another file.
    """
    others = sorted(map(str, python_files(named) - python_files(requested)))
    if others:
        raise CodeNotAllowed(
            f"{place} runs the Python code of {', '.join(others)}, which could do anything, and the settings do not "
            "name it. If you trust it, name it too, with the same settings (such as `backbone=FILE.py:Class`), "
            "or allow all such code with `allow_code`."
        )
