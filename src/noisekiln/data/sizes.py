"""Which size the images get, and how to say so."""

from collections import Counter

from noisekiln.data.values import SMALLEST
from noisekiln.errors import DataError

AS_IS = 64  # pixels: images of one size whose longer side is at most this are kept as they are
DEFAULT = 32  # pixels: what a processor can learn in minutes

Size = tuple[int, int]


def checked(size: int | tuple[int, int] | None) -> Size | None:
    """The size asked for as (height, width); raises DataError if it is not two lengths of at least 4 pixels."""
    if size is None:
        return None
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < SMALLEST:
        raise DataError(
            f"size {_text((height, width))}",
            f"a side under {SMALLEST} pixels leaves nothing to learn",
            f"Give {SMALLEST} or more, for example {DEFAULT}",
        )
    return height, width


def choose(wanted: Size | None, sizes: Counter[Size]) -> tuple[Size, list[str]]:
    """The size to fit all images to, and notes: why, and what that does to them."""
    target = wanted or _natural(sizes)
    if set(sizes) == {target}:
        return target, []
    found = _text(next(iter(sizes))) if len(sizes) == 1 else _variety(sizes)
    notes = [f"{found}: scaled and centre-cropped to {_text(target)}{'' if wanted else ' (--size changes it)'}."]
    small = sum(count for size, count in sizes.items() if size[0] < target[0] or size[1] < target[1])
    if small:
        notes.append(f"{small:,} of {sizes.total():,} images are smaller than {_text(target)} and were enlarged.")
    return target, notes


def _natural(sizes: Counter[Size]) -> Size:
    """The images' own size if they share a small one, else the default square."""
    first = next(iter(sizes))
    own = len(sizes) == 1 and max(first) <= AS_IS and min(first) >= SMALLEST
    return first if own else (DEFAULT, DEFAULT)


def _variety(sizes: Counter[Size]) -> str:
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return f"{len(sizes):,} different sizes, {_text(by_area[0])} to {_text(by_area[-1])}"


def _text(size: Size) -> str:
    """Width x height, as people write it."""
    return f"{size[1]}x{size[0]}"
