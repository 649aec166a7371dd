"""Dividing rows among processes or micro-batches."""

from itertools import pairwise


def split_evenly(count: int, shares: int) -> list[range]:
    """`count` rows in so many runs whose lengths differ by one at most."""
    ends = [count * i // shares for i in range(shares + 1)]
    return [range(a, b) for a, b in pairwise(ends)]
