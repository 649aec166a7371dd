"""Standard output and error that take any text, and whose loss ends no command."""

import codecs
import io
import os
import sys
from typing import Any, TextIO

SIGNS = {"·": "-", "…": "...", "–": "-", "—": "-", "×": "x", "→": "->", "’": "'", "‘": "'", "“": '"', "”": '"'}
REPLACING = "noisekiln.replacing"  # name of the error handler


def replace_signs(error: UnicodeError) -> tuple[str, int]:
    """Error handler of encodings: signs that one lacks become similar ones, or their numbers, as in Python text."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(SIGNS.get(sign) or sign.encode("ascii", "backslashreplace").decode() for sign in lacking), error.end


class Output(io.FileIO):
    """A standard stream that drops what can no longer be written: its reader has ended, or the disk is full."""

    def write(self, data: Any, /) -> int:
        """Write; what cannot be written and everything after it is dropped, with a line on standard error."""
        try:
            return super().write(data) or 0
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if self.fileno() == sys.stdout.fileno() and not isinstance(error, BrokenPipeError):
                print(
                    f"noisekiln: standard output cannot be written: {error.strerror}. Nothing more is printed; "
                    "files are still written.",
                    file=sys.stderr,
                )
            return memoryview(data).nbytes


def prepare_streams() -> None:
    """Make both standard streams take any text, and outlive their reader; called once, by the program itself."""
    codecs.register_error(REPLACING, replace_signs)
    sys.stdout, sys.stderr = _prepared(sys.stdout, 1), _prepared(sys.stderr, 2)


def _prepared(stream: TextIO | None, number: int) -> TextIO:
    if stream is None:  # closed when the program started
        return open(os.devnull, "w", encoding="utf-8")
    if not isinstance(stream, io.TextIOWrapper):  # the program runs inside another one, which has replaced it
        return stream
    if os.name == "nt" and stream.isatty():  # Windows writes to its console by other means than a file
        stream.reconfigure(errors=REPLACING)
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(Output(number, "w", closefd=False)),
        stream.encoding,
        REPLACING,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
