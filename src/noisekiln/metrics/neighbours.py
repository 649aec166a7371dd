"""Nearest neighbours among features, in blocks: memory does not grow with the product of the numbers of rows."""

from typing import NamedTuple

import torch
from torch import Tensor

from noisekiln.metrics.feature_rows import check_features, row_blocks

ROUNDING = 1e-12  # of the squared norms: smaller squared distances are rounding, and count as 0


class Neighbours(NamedTuple):
    """The nearest rows of each query, the nearest first: `distances` (N, k) float64 and `rows` (N, k) int64.

    Which of equally near ones come first is not defined.
    """

    distances: Tensor
    rows: Tensor


def nearest(queries: Tensor, points: Tensor, k: int = 1, *, leave_one_out: bool = False) -> Neighbours:
    """The `k` nearest rows of `points` for each row of `queries`, by Euclidean distance.

    Args:
        queries: Features, (N, D).
        points: Features, (M, D).
        k: How many neighbours.
        leave_one_out: The queries are the points, in the same order, and no point is a neighbour of itself; a second
            point with the same features is.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or there are fewer than `k` points.
    """
    check_features(points, least=k + leave_one_out)
    check_features(queries, points, least=1)
    found = []
    for start, block in row_blocks(queries):
        best = Neighbours(block.new_empty(len(block), 0), torch.empty(len(block), 0, dtype=torch.int64))
        for first, others in row_blocks(points):
            squared = squared_distances(block, others)
            if leave_one_out and first == start:
                squared.fill_diagonal_(torch.inf)
            best = _merge(best, squared, first, k)
        found.append(best)
    distances, rows = (torch.cat(parts) for parts in zip(*found, strict=True))
    return Neighbours(distances.sqrt(), rows)


def squared_distances(first: Tensor, second: Tensor) -> Tensor:
    """``|a - b|^2 = |a|^2 + |b|^2 - 2 a.b`` for all pairs of rows, (N, M); exactly 0 for equal rows.

    Args:
        first: Features, (N, D) float64.
        second: Features, (M, D) float64.
    """
    norms = first.square().sum(1)[:, None] + second.square().sum(1)
    squared = torch.addmm(norms, first, second.T, alpha=-2)
    return squared.masked_fill_(squared < ROUNDING * norms, 0)


def _merge(best: Neighbours, squared: Tensor, first: int, k: int) -> Neighbours:
    """The k nearest of those known, and of a block of points that begins with the row `first`."""
    values, columns = squared.topk(min(k, squared.shape[1]), dim=1, largest=False)
    values, rows = torch.cat([best.distances, values], 1), torch.cat([best.rows, columns + first], 1)
    values, order = values.topk(min(k, values.shape[1]), dim=1, largest=False)
    return Neighbours(values, rows.gather(1, order))
