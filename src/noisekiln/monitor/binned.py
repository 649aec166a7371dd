"""Means of many values by what they belong to."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


class Binned:
    """Running means in bins, since they were last asked for.

    Args:
        edges: Borders of the bins, rising; a border belongs to the bin above, what lies outside to the outermost.
        name: What begins the bins' names: "loss/nsr" gives "loss/nsr_0.1-0.2", ...
    """

    def __init__(self, edges: Sequence[float], name: str) -> None:
        self._edges = torch.tensor(edges, dtype=torch.float64)
        self.names = tuple(f"{name}_{low:g}-{high:g}" for low, high in pairwise(edges))
        self._taken: list[tuple[Tensor, Tensor]] = []

    def take(self, places: Tensor, values: Tensor) -> None:
        """Take in values (N,) that belong to the places (N,); they are looked at only when means are asked for."""
        self._taken.append((places, values))

    def means(self, summed: Callable[[Sequence[float]], list[float]] = list) -> dict[str, float]:
        """The mean in each bin that anything fell into, by its name; then all is forgotten.

        Args:
            summed: Adds up numbers of several processes, each of which has taken in some values.
        """
        if not self._taken:
            return {}
        places, values = (torch.cat(parts).double().cpu() for parts in zip(*self._taken, strict=True))
        self._taken.clear()
        bins = (torch.bucketize(places, self._edges, right=True) - 1).clamp(0, len(self.names) - 1)
        sums = torch.zeros(len(self.names), dtype=torch.float64).index_add_(0, bins, values)
        found = summed([*sums.tolist(), *torch.bincount(bins, minlength=len(self.names)).tolist()])
        totals, counts = found[: len(self.names)], found[len(self.names) :]
        return {name: s / n for name, s, n in zip(self.names, totals, counts, strict=True) if n > 0}
