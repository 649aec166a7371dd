"""Sums of the polynomial kernel over pairs of rows: the mean of the kernel, and the terms of its variance."""

from dataclasses import dataclass

import torch
from torch import Tensor

from noisekiln.metrics.feature_rows import row_blocks


def kernel(first: Tensor, second: Tensor) -> Tensor:
    """``k(x, y) = (x.y / D + 1)^3`` of all pairs of rows, (N, M) (Binkowski et al. 2018, section 3)."""
    return torch.addmm(first.new_ones(()), first, second.T, alpha=1 / first.shape[1]).pow_(3)


def centred_kernel(first: Tensor, second: Tensor, centre: Tensor) -> Tensor:
    """``k(x, y) - k(x, c) - k(c, y) + k(c, c)``: the same MMD, from smaller numbers, so that rounding is smaller."""
    left, right, constant = (kernel(one, two) for one, two in [(first, centre), (centre, second), (centre, centre)])
    return kernel(first, second).sub_(left).sub_(right).add_(constant)


@dataclass(frozen=True)
class KernelSums:
    """Sums of kernel values over all pairs of two sets: by row (N,), by column (M,), and of their squares.

    All means are over products of different rows, hence unbiased.
    """

    rows: Tensor
    columns: Tensor
    squares: float

    @classmethod
    def between(cls, first: Tensor, second: Tensor, centre: Tensor) -> "KernelSums":
        """All pairs of a row of the first set and one of the second."""
        rows, columns = first.new_zeros(len(first), dtype=torch.float64), second.new_zeros(len(second)).double()
        squares = 0.0
        for start, block in row_blocks(first):
            for other, others in row_blocks(second):
                values = centred_kernel(block, others, centre)
                rows[start : start + len(block)] += values.sum(1)
                columns[other : other + len(others)] += values.sum(0)
                squares += float(values.square_().sum())
        return cls(rows, columns, squares)

    @property
    def total(self) -> float:
        """Sum over all pairs."""
        return float(self.rows.sum())

    @property
    def mean(self) -> float:
        """Of k over all pairs."""
        return self.total / (len(self.rows) * len(self.columns))

    @property
    def by_row(self) -> float:
        """``E_x (E_y k)^2``: products of pairs that share x, not y."""
        return (float(self.rows.square().sum()) - self.squares) / (len(self.rows) * falling(len(self.columns), 2))

    @property
    def by_column(self) -> float:
        """``E_y (E_x k)^2``: products of pairs that share y, not x."""
        return (float(self.columns.square().sum()) - self.squares) / (len(self.columns) * falling(len(self.rows), 2))

    @property
    def disjoint(self) -> float:
        """``(E k)^2``: products of pairs that share no row."""
        overlapping = float(self.rows.square().sum() + self.columns.square().sum()) - self.squares
        return (self.total**2 - overlapping) / (falling(len(self.rows), 2) * falling(len(self.columns), 2))

    @property
    def interaction_variance(self) -> float:
        """Variance of the part of k that is no sum of a function of x and one of y, divided by the number of pairs."""
        count = len(self.rows) * len(self.columns)
        return (self.squares / count - self.by_row - self.by_column + self.disjoint) / count


@dataclass(frozen=True)
class InnerKernelSums:
    """Sums of kernel values over all ordered pairs of different rows of one set: by row (N,), and of their squares.

    All means are over products of different rows, hence unbiased.
    """

    rows: Tensor
    squares: float

    @classmethod
    def within(cls, features: Tensor, centre: Tensor) -> "InnerKernelSums":
        """All ordered pairs of different rows; each block of pairs is computed once and counted both ways."""
        rows, squares = features.new_zeros(len(features), dtype=torch.float64), 0.0
        for start, block in row_blocks(features):
            for other, others in row_blocks(features[: start + len(block)]):
                values = centred_kernel(block, others, centre)
                if other == start:
                    values.fill_diagonal_(0)
                else:
                    rows[other : other + len(others)] += values.sum(0)
                rows[start : start + len(block)] += values.sum(1)
                squares += float(values.square_().sum()) * (1 if other == start else 2)
        return cls(rows, squares)

    @property
    def total(self) -> float:
        """Sum over all pairs."""
        return float(self.rows.sum())

    @property
    def mean(self) -> float:
        """Of k over all pairs."""
        return self.total / falling(len(self.rows), 2)

    @property
    def by_row(self) -> float:
        """``E_x (E_x' k)^2``: products of pairs that share one row."""
        return (float(self.rows.square().sum()) - self.squares) / falling(len(self.rows), 3)

    @property
    def disjoint(self) -> float:
        """``(E k)^2``: products of pairs that share no row."""
        overlapping = 4 * float(self.rows.square().sum()) - 2 * self.squares
        return (self.total**2 - overlapping) / falling(len(self.rows), 4)

    @property
    def interaction_variance(self) -> float:
        """Variance of the part of k that is no sum of functions of one row, times 2, divided by the number of pairs."""
        count = falling(len(self.rows), 2)
        return 2 * (self.squares / count - 2 * self.by_row + self.disjoint) / count


def witness_variance(inner: InnerKernelSums, to_other: Tensor, by_row: float, disjoint: float, count: int) -> float:
    """Variance over x of the witness function ``E_x' k(x, x') - E_y k(x, y)``, unbiased (it may be negative).

    Args:
        inner: Pairs within the set of the x.
        to_other: Kernel values of each x with all y, summed, (N,).
        by_row: ``E_x (E_y k)^2``.
        disjoint: ``(E k(x, y))^2``.
        count: How many y.
    """
    products = float((inner.rows * to_other).sum())
    n = len(inner.rows)
    mixed = products / (falling(n, 2) * count)
    mixed_disjoint = (inner.total * float(to_other.sum()) - 2 * products) / (falling(n, 3) * count)
    return inner.by_row - 2 * mixed + by_row - (inner.disjoint - 2 * mixed_disjoint + disjoint)


def falling(n: int, count: int) -> int:
    """``n (n - 1) ... (n - count + 1)``: ordered choices of `count` different rows."""
    return n if count == 1 else n * falling(n - 1, count - 1)
