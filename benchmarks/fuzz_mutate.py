"""Random damage to files and texts: bits, cuts, repetitions, numbers at the edge, and pieces of hostile text."""

import random
import struct
from collections.abc import Callable, Sequence

EDGES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
HOSTILE = (
    b"[" * 3000, b'{"a":' * 900, b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\r", b"\xe2\x80\xa8", b"\x1b]52;c;eA==\x07",
    b"\xe2\x80\xae", b"NaN", b"Infinity", b"-1", b"1e400", b"99999999999999999999", b"null", b"true", b"[]", b"{}",
    b"../../x", b"/etc/passwd", b"x.py:Y", b"&a [*a,*a]", b"!!python/object/apply:os.system [x]", b"'", b'"', b",",
    b";", b'""', b"(", b")", b"=", b"\\", b"\n", b"\t", b"%s%n", b"__class__", b"\xed\xa0\x80", b"e\xcc\x81", b"\xc3",
    b"A" * 70000,
)  # fmt: skip

Change = Callable[[bytearray, random.Random], None]


def mutate(data: bytes, source: random.Random) -> bytes:
    """A damaged copy: one to four changes at random."""
    changed = bytearray(data)
    for _ in range(source.choice((1, 1, 1, 2, 4))):
        source.choice(CHANGES)(changed, source)
    return bytes(changed)


def _place(data: Sequence[int], source: random.Random) -> int:
    """A place; every other time near the beginning, where headers are."""
    end = min(len(data), 64) if source.random() < 0.5 else len(data)
    return source.randrange(end) if end else 0


def _flip(data: bytearray, source: random.Random) -> None:
    if data:
        data[_place(data, source)] ^= 1 << source.randrange(8)


def _byte(data: bytearray, source: random.Random) -> None:
    if data:
        data[_place(data, source)] = source.randrange(256)


def _number(data: bytearray, source: random.Random) -> None:
    form = source.choice(("<B", "<H", ">H", "<I", ">I", "<Q"))
    size = struct.calcsize(form)
    start = _place(data, source)
    data[start : start + size] = struct.pack(form, source.choice(EDGES) % 2 ** (8 * size))


def _cut(data: bytearray, source: random.Random) -> None:
    del data[_place(data, source) :]


def _leave_out(data: bytearray, source: random.Random) -> None:
    start = _place(data, source)
    del data[start : start + source.choice((1, 2, 4, 16, 256))]


def _repeat(data: bytearray, source: random.Random) -> None:
    start = _place(data, source)
    piece = bytes(data[start : start + source.choice((1, 4, 32, 512))])
    data[start:start] = piece * source.choice((1, 2, 50))


def _insert(data: bytearray, source: random.Random) -> None:
    start = _place(data, source)
    data[start:start] = source.choice(HOSTILE)


def _replace(data: bytearray, source: random.Random) -> None:
    start = _place(data, source)
    data[start : start + source.choice((1, 2, 4, 8))] = source.choice(HOSTILE)


def _value(data: bytearray, source: random.Random) -> None:
    """Replace a whole value of JSON, YAML, CSV or a spec by another."""
    ends = b",:=()[]{}\n;"
    marks = [i for i, byte in enumerate(data) if byte in ends]
    if len(marks) > 1:
        number = source.randrange(len(marks) - 1)
        data[marks[number] + 1 : marks[number + 1]] = source.choice(HOSTILE)


CHANGES: tuple[Change, ...] = (_flip, _byte, _number, _cut, _leave_out, _repeat, _insert, _replace, _value)
