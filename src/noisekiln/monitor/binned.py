"""Means of many values, in bins of another quantity."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor


class BinnedMeans:
    """Running means in bins, reset when they are read.

    Args:
        edges: Borders of the bins, rising; a border belongs to the bin above, values outside to the outermost bins.
        name: Prefix of the bins' names: "loss/nsr" gives "loss/nsr_0.1-0.2", ...
    """

    def __init__(self, edges: Sequence[float], name: str) -> None:
        self._edges = torch.tensor(edges, dtype=torch.float64)
        self.names = tuple(f"{name}_{low:g}-{high:g}" for low, high in pairwise(edges))
        self._added: list[tuple[Tensor, Tensor]] = []

    def add(self, places: Tensor, values: Tensor) -> None:
        """Add values, (N,), at places, (N,), on any device; they are copied to the CPU only when means are read."""
        self._added.append((places, values))

    def read(self, all_reduce_sum: Callable[[Sequence[float]], list[float]] = list) -> dict[str, float]:
        """The mean of each bin that is not empty, by its name; all bins are emptied.

        Args:
            all_reduce_sum: Function that sums numbers over processes, each of which has added some values.
        """
        if not self._added:
            return {}
        # One transfer from the device for both.
        places, values = torch.stack([torch.cat(parts) for parts in zip(*self._added, strict=True)]).cpu().double()
        self._added.clear()
        bins = (torch.bucketize(places, self._edges, right=True) - 1).clamp(0, len(self.names) - 1)
        sums = torch.zeros(len(self.names), dtype=torch.float64).index_add_(0, bins, values)
        numbers = all_reduce_sum([*sums.tolist(), *torch.bincount(bins, minlength=len(self.names)).tolist()])
        totals, counts = numbers[: len(self.names)], numbers[len(self.names) :]
        return {name: total / count for name, total, count in zip(self.names, totals, counts, strict=True) if count > 0}
