"""Text of files, in any of the encodings that editors and spreadsheets write."""

from PIL import Image

from noisekiln.data.encoding import decode_text
from noisekiln.data.source import Item
from noisekiln.errors import DataError, counted


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
    zeros = text.count("\0")
    if zeros:
        notes.append(f"{item.name}: {counted(zeros, 'zero character')} in it {'is' if zeros == 1 else 'are'} left out.")
    return text.replace("\0", ""), notes
