"""Paths as people write them: ``~`` is the home folder."""

from pathlib import Path


def expand_home(path: str | Path) -> Path:
    """A path whose ``~`` or ``~user`` at the beginning is replaced by the home folder.

    Raises:
        ValueError: If there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        user = Path(path).parts[0]
        raise ValueError(
            f"{path} begins with {user}, the home folder of a user who does not exist here. "
            "Give ~ for your own home folder, or the whole path, from /, of a folder of that name."
        ) from None
