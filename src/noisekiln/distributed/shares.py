"""Division of rows and of work among processes or micro-batches."""

from collections.abc import Sequence
from itertools import pairwise


def split_balanced(count: int, parts: int) -> list[range]:
    """Split `count` rows into `parts` ranges whose lengths differ by at most 1."""
    return _ranges([count * i // parts for i in range(parts + 1)])


def split_fixed_size(count: int, parts: int) -> list[range]:
    """Split `count` rows into `parts` ranges of one length, except the last: 256 in 3 are 86, 86 and 84.

    If that would leave a range empty, as for 5 in 4, the last ones have one row each: 2, 1, 1 and 1.

    Args:
        count: Number of rows, at least one per range.
        parts: Number of ranges.
    """
    length = -(-count // parts)
    return _ranges([min(i * length, count - (parts - i)) for i in range(parts)] + [count])


def split_by_cost(costs: Sequence[float], parts: int) -> list[list[int]]:
    """Split items, by index, into `parts` lists of about equal cost; a list may be empty.

    The most expensive first, each item goes to the list that costs least so far.
    """
    lists: list[list[int]] = [[] for _ in range(parts)]
    sums = [0.0] * parts
    for index in sorted(range(len(costs)), key=lambda index: -costs[index]):
        cheapest = sums.index(min(sums))
        lists[cheapest].append(index)
        sums[cheapest] += costs[index]
    return lists


def _ranges(ends: list[int]) -> list[range]:
    return [range(start, stop) for start, stop in pairwise(ends)]
