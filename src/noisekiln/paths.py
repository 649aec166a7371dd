"""Paths as people write them: ``~`` is the home folder."""

import os
from pathlib import Path


def expand_home(path: str | Path) -> Path:
    """A path whose ``~`` or ``~user`` at the beginning is replaced by the home folder.

    Raises:
        ValueError: If there is no such user, or it is no path.
    """
    if not isinstance(path, str | os.PathLike):
        raise ValueError(f"A {type(path).__name__} was given, which is no path of a file or a folder. Give text.")
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise ValueError(
            f"{path} begins with {user}, the home folder of a user who does not exist here. "
            "Give ~ for your own home folder, or the whole path, from /, of a folder of that name."
        ) from None
