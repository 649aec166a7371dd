"""KID: the squared maximum mean discrepancy of two sets of features, with its standard error and p-value."""

import torch
from torch import Tensor

from noisekiln.metrics.estimated import Estimated
from noisekiln.metrics.feature_rows import check_features, mean_row, row_blocks
from noisekiln.metrics.kernel_sums import InnerKernelSums, KernelSums, kernel, witness_variance

TIED = 1e-13  # of the largest value of the kernel: values nearer than this are equal, but for rounding


def kernel_distance(first: Tensor, second: Tensor) -> Estimated:
    """``MMD^2 = E k(x, x') + E k(y, y') - 2 E k(x, y)`` with ``k(x, y) = (x.y / D + 1)^3`` (Binkowski et al. 2018).

    The unbiased estimate: its mean over samples of one distribution is 0 for any N, so it may be negative. All pairs
    are used, no random subsets, so the value is the same at every call. Cost: ``(N + M)^2 D``.

    The standard error is the standard deviation of the estimate over samples of these sizes: the variance of a
    U-statistic by its Hoeffding decomposition, each term of it estimated without bias (as Sutherland & Deka 2019). For
    two samples of one distribution the terms of first order are 0 but their estimates are not, so the variance may
    come out too small, even negative: it is at least half of that of the terms of second order.

    Args:
        first: Features, (N, D), N >= 4.
        second: Features, (M, D), M >= 4.

    Raises:
        ValueError: If the shapes do not fit, or a feature is not finite.
    """
    check_features(first, second, least=4)
    centre = (mean_row(first) + mean_row(second))[None] / 2
    one, two = InnerKernelSums.within(first, centre), InnerKernelSums.within(second, centre)
    cross = KernelSums.between(first, second, centre)
    n, m = len(first), len(second)
    linear = 4 * witness_variance(one, cross.rows, cross.by_row, cross.disjoint, m) / n
    linear += 4 * witness_variance(two, cross.columns, cross.by_column, cross.disjoint, n) / m
    pairs = one.interaction_variance + two.interaction_variance + 4 * cross.interaction_variance
    variance = max(linear + pairs, pairs / 2, 0.0)  # pairs < 0 is rounding: equal rows
    return Estimated(one.mean + two.mean - 2 * cross.mean, variance**0.5)


def permutation_p_value(first: Tensor, second: Tensor, *, permutations: int = 1000, seed: int = 0) -> float:
    """Share of random regroupings of all rows whose MMD is at least as large as that of the two sets.

    ``p = (1 + #{permuted >= observed}) / (1 + permutations)``: at most q with probability q if both sets are samples of
    one distribution. The rows are put into an order of their own first, so that in which they come changes nothing.

    Args:
        first: Features, (N, D), N >= 2.
        second: Features, (M, D), M >= 2.
        permutations: How many; the smallest p-value is ``1 / (1 + permutations)``.
        seed: Of the permutations.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or there are no permutations.
    """
    check_features(first, second)
    if permutations < 1:
        raise ValueError(f"`permutations={permutations}` compares with nothing. Take 1 or more; 1,000 is the default.")
    generator = torch.Generator().manual_seed(seed)
    pooled = torch.cat([first, second])
    direction = torch.randn(pooled.shape[1], generator=generator, dtype=torch.float64)
    order = torch.cat([block @ direction for _, block in row_blocks(pooled)]).argsort(stable=True)
    largest = max(float(1 + block.square().mean(1).max()) ** 3 for _, block in row_blocks(pooled))
    drawn = [torch.randperm(len(pooled), generator=generator) < len(first) for _ in range(permutations)]
    groups = torch.stack([order < len(first), *drawn], dim=1)
    values = distances_of_groups(pooled[order], groups)
    reached = values[1:] >= values[0] - TIED * largest
    return (1 + int(reached.sum())) / (1 + permutations)


def distances_of_groups(pooled: Tensor, groups: Tensor) -> Tensor:
    """MMD of the rows with True in each column of `groups`, (N, P), from those with False: (P,)."""
    inside = groups.new_zeros(groups.shape[1], dtype=torch.float64)
    by_row = groups.new_zeros(len(pooled), dtype=torch.float64)
    for start, block in row_blocks(pooled):
        chosen = groups[start : start + len(block)].double()
        for other, others in row_blocks(pooled[: start + len(block)]):
            values = kernel(block, others)
            if other == start:
                values.fill_diagonal_(0)
            else:
                by_row[other : other + len(others)] += values.sum(0)
            by_row[start : start + len(block)] += values.sum(1)
            pairs = (chosen * (values @ groups[other : other + len(others)].double())).sum(0)
            inside += pairs * (1 if other == start else 2)
    n, m = int(groups[:, 0].sum()), int((~groups[:, 0]).sum())
    # Pairs with their first row in the group: those inside, and each one across once.
    touching = torch.stack([by_row[start:][: len(block)] @ block for start, block in row_blocks(groups)]).sum(0)
    outside, across = by_row.sum() - 2 * touching + inside, touching - inside
    return inside / (n * (n - 1)) + outside / (m * (m - 1)) - 2 * across / (n * m)
