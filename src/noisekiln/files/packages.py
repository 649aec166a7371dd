"""Packages of extras: whether they are installed, and what to install."""

from importlib.util import find_spec


def check_packages(what: str, extra: str, *packages: str) -> None:
    """Raise ValueError if a package is not installed; none is imported, which may take seconds.

    Args:
        what: What needs them, as the beginning of a sentence.
        extra: Extra of noisekiln that installs them.
        packages: Names by which they are imported.
    """
    missing = [name.replace("_", "-") for name in packages if find_spec(name) is None]
    if missing:
        kind, verb, them = ("package", "is", "it") if len(missing) == 1 else ("packages", "are", "them")
        raise ValueError(
            f"{what} needs the {kind} {', '.join(missing)}, which {verb} not installed. "
            f'Install {them}: pip install "noisekiln[{extra}]".'
        )
