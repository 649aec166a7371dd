"""The encoding of text: UTF-8, UTF-16, or the one of Western Windows, in which spreadsheets save."""

import codecs
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noisekiln.errors import DataError

MARKS = (  # the longer mark first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_RUN = 3  # of letters above ASCII that follow each other in Western European text ("créée", "größer")


def decode_text(name: str, raw: bytes) -> tuple[str, str]:
    """The text of bytes, and their encoding in words if it had to be guessed. Raises DataError if it is unknown."""
    encoding = next((encoding for mark, encoding in MARKS if raw.startswith(mark)), _encoding_without_mark(raw))
    try:
        return raw.decode(encoding).lstrip("\ufeff"), "Western European (cp1252)" if encoding == "cp1252" else ""
    except UnicodeDecodeError as error:
        raise DataError(name, f"its text is neither UTF-8 nor UTF-16 ({error.reason})", "Save it as UTF-8") from error


def decode_array(name: str, values: NDArray[Any]) -> tuple[NDArray[np.str_], str]:
    """An array of bytes as texts, all by one encoding, and that in words if it had to be guessed.

    Raises:
        DataError: If the encoding is unknown.
    """
    _, guessed = decode_text(name, b"\n".join(values.ravel().tolist()))
    return np.char.decode(values, "cp1252" if guessed else "utf-8"), guessed


def _encoding_without_mark(raw: bytes) -> str:
    """UTF-8 where it is valid; UTF-16 if every other byte is 0; cp1252 if letters above ASCII are rare and single."""
    text = raw.strip(b"\0")  # a file that a crash has padded with zeros
    for place, encoding in ((1, "utf-16-le"), (0, "utf-16-be")):
        every_other = raw[place : len(text) : 2]
        if len(text) > 3 and 2 * every_other.count(0) > len(every_other):
            return encoding
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        runs = re.findall(rb"[\x80-\xff]+", raw)
        return "cp1252" if max(map(len, runs)) <= LONGEST_RUN else "utf-8"
    return "utf-8"
