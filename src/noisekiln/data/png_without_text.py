"""PNG files without their texts: Pillow refuses a file whose texts are long, though its pixels are fine."""

import io
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
TEXTS = (b"tEXt", b"zTXt", b"iTXt")
SHORT = 1000  # bytes: compressed text of this length cannot exceed Pillow's limit of 1 MiB


def without_long_text(handle: BinaryIO) -> BinaryIO:
    """The same file at its start, or, if it is a PNG with more than 1,000 bytes of text, a copy without the texts.

    Programs that generate images save their whole workflow there, often several MiB.
    """
    handle.seek(0)
    texts = _text_spans(handle) if handle.read(8) == SIGNATURE else []
    handle.seek(0)
    if sum(end - start for start, end in texts) <= SHORT:
        return handle
    kept = io.BytesIO()
    for start, end in texts:
        kept.write(handle.read(start - handle.tell()))
        handle.seek(end)
    kept.write(handle.read())
    kept.seek(0)
    return kept


def _text_spans(handle: BinaryIO) -> list[tuple[int, int]]:
    """Start and end of every chunk of text; only the chunks' headers are read."""
    spans = []
    start = len(SIGNATURE)
    while len(head := handle.read(8)) == 8 and head[4:] != b"IEND":
        end = start + 12 + int.from_bytes(head[:4])
        if head[4:] in TEXTS:
            spans.append((start, end))
        start = handle.seek(end)
    return spans
