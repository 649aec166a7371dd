"""Common size of the images, and sizes as text."""

from collections import Counter
from operator import index
from typing import Any

from noisekiln.data.values import MIN_SIDE
from noisekiln.errors import DataError

AS_IS, LONGEST = 64 * 64, 128  # pixels, and on the longer side: images of one size up to these are kept as they are
MOST = 0.9  # share of the images that has one shape, if all get it
MAX_SIDE = 4096  # pixels
LARGE, SMALL = 64, 32  # longer side by default: both are trained on a CPU in minutes, the larger one in latents

Size = tuple[int, int]


def height_and_width(size: Any) -> Size:
    """A size as (height, width): of one side, or of two; also in numbers of numpy or torch.

    Raises:
        ValueError: If it is neither.
    """
    try:
        return index(size), index(size)
    except TypeError:  # no single number
        pass
    try:
        height, width = map(index, size)
    except (TypeError, ValueError) as error:  # text, a float, three sides
        raise ValueError(
            f"`size={size!r}` is neither a side in pixels nor a height and a width. Give 64, or (64, 96)."
        ) from error
    return height, width


def checked_size(size: int | tuple[int, int] | None) -> Size | None:
    """The requested size as (height, width); raises ValueError if it is not two lengths of at least 4 pixels."""
    if size is None:
        return None
    height, width = height_and_width(size)
    if min(height, width) < MIN_SIDE:
        raise DataError(
            f"`size={_height_by_width((height, width))}`",
            f"a side under {MIN_SIDE} pixels leaves nothing to learn",
            f"Give {MIN_SIDE} or more, for example {SMALL}",
        )
    if max(height, width) > MAX_SIDE:
        raise DataError(
            f"`size={_height_by_width((height, width))}`",
            f"a network for sides over {MAX_SIDE:,} pixels fits into no memory",
            "Give a smaller one; large images can be sampled in tiles of a smaller model",
        )
    return height, width


def choose(requested: Size | None, sizes: Counter[Size]) -> tuple[Size, list[str]]:
    """The size that all images are scaled to, and notes about the scaling."""
    target = requested or _natural_size(sizes)
    if set(sizes) == {target}:
        return target, []
    found = _height_by_width(next(iter(sizes))) if len(sizes) == 1 else _variety(sizes)
    how = "" if requested else " (`size` changes it)"
    notes = [f"{found}: scaled and centre-cropped to {_height_by_width(target)}{how}."]
    small = sum(count for size, count in sizes.items() if size[0] < target[0] or size[1] < target[1])
    if small:
        notes.append(
            f"{small:,} of {sizes.total():,} images are smaller than {_height_by_width(target)} and were enlarged."
        )
    return target, notes


def _natural_size(sizes: Counter[Size]) -> Size:
    """The images' own size if they share a small one, else the larger side that most of them fill, or the smaller."""
    first = next(iter(sizes))
    if len(sizes) == 1 and first[0] * first[1] <= AS_IS and min(first) >= MIN_SIDE and max(first) <= LONGEST:
        return first
    large = _common_shape(sizes, LARGE)
    fill = sum(count for (height, width), count in sizes.items() if height >= large[0] and width >= large[1])
    return large if 2 * fill > sizes.total() else _common_shape(sizes, SMALL)


def _common_shape(sizes: Counter[Size], side: int) -> Size:
    """The shape that nearly all images round to, or a square."""
    shapes = Counter[Size]()
    for size, count in sizes.items():
        shapes[_shape(size, side)] += count
    [(shape, count)] = shapes.most_common(1)
    return shape if count >= MOST * sizes.total() else (side, side)


def _shape(size: Size, side: int) -> Size:
    """A longer side of `side` pixels, and the other one as the image has it, in quarters: a half of it at least.

    Quarters, as networks halve the sides; long strips lose their ends.
    """
    height, width = (max(2, round(4 * length / max(size))) * side // 4 for length in size)
    return height, width


def _variety(sizes: Counter[Size]) -> str:
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    return f"{len(sizes):,} different sizes, {_height_by_width(by_area[0])} to {_height_by_width(by_area[-1])}"


def _height_by_width(size: Size) -> str:
    """Like the setting `size`."""
    return f"{size[0]}x{size[1]}"
