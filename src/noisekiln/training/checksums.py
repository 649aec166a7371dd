"""Files with their SHA-256 in a file beside them, which `sha256sum -c SHA256SUMS` checks."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from noisekiln.files.atomic import sync
from noisekiln.files.plain_file import check_plain, read_plain_text

SUMS = "SHA256SUMS"


def checksum_line(file: Path) -> str:
    """The line of a file in `SHA256SUMS`."""
    check_plain(file)
    with file.open("rb") as handle:
        return f"{hashlib.file_digest(handle, 'sha256').hexdigest()}  {file.name}\n"


def verify_sums(place: Path, files: Sequence[Path]) -> None:
    """Raise OSError or ValueError unless these are the files of a folder's `SHA256SUMS`, as they were written."""
    written = read_plain_text(place / SUMS)
    found = [checksum_line(file) for file in files]
    if "".join(found) != written:
        odd = {line.split("  ", 1)[-1] for line in set(found) ^ set(written.splitlines(keepends=True))}
        names = ", ".join(sorted(repr(name.strip()) for name in odd)) or SUMS
        raise ValueError(f"{names}: not what was written, by its {SUMS}")


def write_synced(file: Path, text: str) -> None:
    """Write text, and wait until it is on the disk."""
    file.write_text(text, encoding="utf-8", newline="\n")
    sync(file)
