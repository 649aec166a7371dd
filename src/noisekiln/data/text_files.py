"""Text of files in any of the encodings that editors and spreadsheets write."""

import codecs
import re

from PIL import Image

from noisekiln.data.source import Item
from noisekiln.errors import DataError

MARKS = (  # the longer mark first: that of UTF-32 begins like that of UTF-16
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
LONGEST_RUN = 3  # of letters above ASCII that follow each other in Western European text ("créée", "größer")


def read_text(item: Item, limit: int | None = None) -> tuple[str, list[str]]:
    """A file's text and notes on how it was read.

    Args:
        item: The file.
        limit: Largest number of bytes.

    Raises:
        DataError: If it cannot be opened, is larger than the limit, or its encoding is unknown.
    """
    try:
        with item.open() as handle:
            assert not isinstance(handle, Image.Image)  # these items are files
            raw = handle.read() if limit is None else handle.read(limit + 1)
    except OSError as error:
        raise DataError(item.name, f"its text cannot be read ({error.strerror or error})", "Check the file") from error
    if limit is not None and len(raw) > limit:
        raise DataError(item.name, f"it has over {limit:,} bytes, which is no caption", "Shorten or remove it")
    text, encoding = decode_text(item.name, raw)
    notes = [f"{item.name} is not UTF-8; it was read as {encoding}."] if encoding else []
    if "\0" in text:
        notes.append(f"{item.name}: {text.count(chr(0)):,} zero characters in it were left out.")
    return text.replace("\0", ""), notes


def decode_text(name: str, raw: bytes) -> tuple[str, str]:
    """The text of bytes, and their encoding in words if it had to be guessed. Raises DataError if it is unknown."""
    encoding = next((encoding for mark, encoding in MARKS if raw.startswith(mark)), _encoding_without_mark(raw))
    try:
        return raw.decode(encoding), "Western European (cp1252)" if encoding == "cp1252" else ""
    except UnicodeDecodeError as error:
        raise DataError(name, f"its text is neither UTF-8 nor UTF-16 ({error.reason})", "Save it as UTF-8") from error


def _encoding_without_mark(raw: bytes) -> str:
    """UTF-8 where it is valid; UTF-16 if every other byte is 0; cp1252 if letters above ASCII are rare and single."""
    for zeros, encoding in ((raw[1::2], "utf-16-le"), (raw[::2], "utf-16-be")):
        if len(raw) > 3 and 2 * zeros.count(0) > len(zeros) and 4 * raw.count(0) < 3 * len(raw):
            return encoding
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        runs = re.findall(rb"[\x80-\xff]+", raw)
        return "cp1252" if max(map(len, runs)) <= LONGEST_RUN else "utf-8"
    return "utf-8"
