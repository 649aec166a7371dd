"""Dividing rows among processes or micro-batches."""

from itertools import pairwise


def split_evenly(count: int, parts: int) -> list[range]:
    """`count` rows in so many runs whose lengths differ by one at most."""
    return _runs([count * i // parts for i in range(parts + 1)])


def split_equally(count: int, parts: int) -> list[range]:
    """`count` rows in so many runs of one length, but for the last: 256 in 3 are 86, 86 and 84.

    Where that would leave a run empty, as for 5 in 4, the last ones have one row each: 2, 1, 1 and 1.

    Args:
        count: Rows, at least one for each run.
        parts: Number of runs.
    """
    length = -(-count // parts)
    return _runs([min(i * length, count - (parts - i)) for i in range(parts)] + [count])


def _runs(ends: list[int]) -> list[range]:
    return [range(a, b) for a, b in pairwise(ends)]
