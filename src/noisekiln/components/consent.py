"""Consent to run Python files: code that the author of a model or a run wrote, not its user."""

import filecmp
from dataclasses import dataclass
from pathlib import Path

from noisekiln.errors import CodeNotAllowed


@dataclass(frozen=True)
class Consent:
    """The Python files that may run, handed down to where specs are built; `check` alone decides.

    A spec that the user has written needs none: it runs with `ANY_CODE`. Whatever reads specs from a file hands down
    the consent that it was given.

    Attributes:
        files: Files that may run, and copies of them with the same content; None for all.
    """

    files: frozenset[Path] | None = frozenset()

    @classmethod
    def of(cls, allow_code: object) -> "Consent":
        """The consent that an argument `allow_code` gives.

        Raises:
            ValueError: If it is neither True nor False: text such as "no" would count as True.
        """
        if isinstance(allow_code, Consent):
            return allow_code
        if not isinstance(allow_code, bool):
            kind = type(allow_code).__name__
            raise ValueError(f"`allow_code`: a {kind} was given, and it must be True or False. Give one of them.")
        return ANY_CODE if allow_code else NO_CODE

    def check(self, file: Path) -> None:
        """Raise CodeNotAllowed if this file must not run."""
        if self.files is not None and not any(is_same_file(file, each) for each in self.files):
            raise CodeNotAllowed(file)

    def folder(self, file: Path) -> Path:
        """The folder from which this file may import others: that of the file which is allowed, not that of a copy."""
        return next((each for each in self.files or () if is_same_file(file, each)), file).resolve().parent


ANY_CODE, NO_CODE = Consent(None), Consent()


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two files are one, or have the same content."""
    try:
        return one.resolve() == other.resolve() or filecmp.cmp(one, other, shallow=False)
    except OSError:  # one of them does not exist
        return False
