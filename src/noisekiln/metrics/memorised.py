"""Memorised samples: those that lie far nearer to one training image than to any other."""

from typing import NamedTuple

import torch
from torch import Tensor

from noisekiln.metrics.estimated import binomial_error
from noisekiln.metrics.feature_rows import check_features, row_blocks
from noisekiln.metrics.neighbours import nearest, squared_distances

THRESHOLD = 1 / 3  # of nearest to second nearest distance (Yoon et al. 2023; Bonnaire et al. 2025)
TOLERATED = 0.1  # of the typical distance of an image to its neighbours: what is nearer is a duplicate
NEIGHBOUR = 4  # which neighbour that is: also where every image stands four times, it is another image
NEAR = 8  # training images near a sample, among which duplicates are looked for first
SOME = 1000  # rows that the typical distance is computed from
LEAST = 20  # distinct training images


class Memorised(NamedTuple):
    """Share of samples that are memorised, and for each sample its nearest training image and how much nearer it is.

    Attributes:
        fraction: Share of samples with a ratio below the threshold.
        standard_error: Of the fraction; never 0.
        nearest: Rows of the training set, (N,) int64; of duplicates the first.
        ratio: Distance to the nearest over that to the second nearest training image, (N,) float64; 0 for a copy.
    """

    fraction: float
    standard_error: float
    nearest: Tensor
    ratio: Tensor


def memorised(samples: Tensor, training: Tensor, *, repeated: Tensor | None = None) -> Memorised:
    """Samples for which ``d1 / d2 < 1/3``, the distances to the nearest and second nearest training image.

    Duplicates in the training set would hide copies of them (``d1 = d2``), so they are left out first. Calibrate it:
    the fraction of held-out real images should be about 0, and so should that of the training set, `leave_one_out`;
    for features of few dimensions it is not (``3^-D`` of them by chance).

    Args:
        samples: Features, (N, D).
        training: Features of the training images, (M, D).
        repeated: The training images to leave out, (M,) bool; by default those that `duplicates` finds among the ones
            that are near a sample: the others decide nothing, and comparing all would cost ``M^2 D``.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or there are fewer than 20 distinct training
            images.
    """
    check_features(samples, training, least=1)
    rows = _distinct_rows_near(samples, training) if repeated is None else (~repeated).nonzero()[:, 0]
    _check_distinct(len(rows), len(training))
    found = nearest(samples, training[rows], 2)
    return _summary(found.distances, rows[found.rows[:, 0]])


def leave_one_out(training: Tensor, *, repeated: Tensor | None = None) -> Memorised:
    """`memorised` for each training image and all others, duplicates left out: what chance alone gives.

    `ratio` and `nearest` have one entry for each training image that is no duplicate, in order. Cost: ``M^2 D``.
    """
    check_features(training, least=1)
    rows = (~(duplicates(training) if repeated is None else repeated)).nonzero()[:, 0]
    _check_distinct(len(rows), len(training))
    found = nearest(training[rows], training[rows], 2, leave_one_out=True)
    return _summary(found.distances, rows[found.rows[:, 0]])


def closest_pairs(found: Memorised, count: int = 16) -> Tensor:
    """The most copied pairs, (count, 2) int64: sample and training image, by rising ratio; all if there are fewer."""
    order = found.ratio.argsort(stable=True)[:count]
    return torch.stack([order, found.nearest[order]], dim=1)


def duplicates(features: Tensor, tolerance: float = TOLERATED) -> Tensor:
    """Rows that repeat an earlier row: (N,) bool. Cost: ``N^2 D``.

    A row repeats another if their distance is at most `tolerance` times the median distance of a row to the fourth
    nearest of those that do not equal it (of up to 1,000 rows); and if it repeats one that repeats it.

    Args:
        features: Features, (N, D).
        tolerance: 0 finds equal rows only.

    Raises:
        ValueError: If the shape does not fit, or a feature is not finite.
    """
    check_features(features, least=1)
    return _repeats(features, _distance_of_duplicates(features, tolerance))


def _distance_of_duplicates(features: Tensor, tolerance: float) -> float:
    some = features[:: -(-len(features) // SOME)]
    apart = torch.full((len(some), NEIGHBOUR), torch.inf, dtype=torch.float64)
    for start, block in row_blocks(some):
        nearest_yet = apart[start : start + len(block)]
        for _, others in row_blocks(features):
            squared = squared_distances(block, others)
            squared.masked_fill_(squared == 0, torch.inf)
            nearest_yet[:] = torch.cat([nearest_yet, squared], 1).topk(NEIGHBOUR, largest=False).values
    farthest = apart.masked_fill(apart.isinf(), 0).amax(1).sqrt()
    found = farthest[farthest > 0]
    return tolerance * float(found.median()) if len(found) else 0.0


def _repeats(features: Tensor, limit: float) -> Tensor:
    """Rows that are connected with an earlier one by steps of at most `limit`, (N,) bool."""
    repeats = torch.zeros(len(features), dtype=torch.bool)
    if len(features) > 1:
        distances = nearest(features, features, leave_one_out=True).distances[:, 0]
        rows = (distances <= limit).nonzero()[:, 0]  # all rows of groups of more than one
        repeats[rows] = _groups(features[rows], limit) < torch.arange(len(rows))
    return repeats


def _groups(features: Tensor, limit: float) -> Tensor:
    """The first row that each row is connected with by steps of at most `limit`, (N,)."""
    groups = torch.arange(len(features))
    while True:
        found = groups.clone()
        for start, block in row_blocks(features):
            mine = found[start : start + len(block)]
            for first, others in row_blocks(features):
                near = squared_distances(block, others) <= limit**2
                others_groups = torch.where(near, groups[first : first + len(others)], len(features)).amin(1)
                torch.minimum(mine, others_groups, out=mine)
        if torch.equal(found, groups):
            return groups
        groups = found[found]  # a step to the group of the group


def _distinct_rows_near(samples: Tensor, training: Tensor) -> Tensor:
    """Training images without duplicates, among them the two distinct ones nearest to each sample."""
    limit = _distance_of_duplicates(training, TOLERATED)
    count = min(NEAR, len(training))
    while True:
        near = nearest(samples, training, count).rows
        rows: Tensor = near.unique()
        rows = rows[~_repeats(training[rows], limit)]
        enough = len(rows) >= LEAST and bool((torch.isin(near, rows).sum(1) >= 2).all())
        if enough or count == len(training):
            return rows
        count = min(8 * count, len(training))


def _check_distinct(distinct: int, count: int) -> None:
    if distinct < LEAST:
        raise ValueError(
            f"Of {count:,} training images {distinct:,} are distinct. With fewer than {LEAST}, the nearest is "
            "often much nearer than the second nearest by chance, so nothing can be concluded about copying. "
            "Look at the pictures yourself, or train with more images."
        )


def _summary(distances: Tensor, rows: Tensor) -> Memorised:
    ratio = torch.where(distances[:, 1] > 0, distances[:, 0] / distances[:, 1], 1)  # 1: both are copies, of each other
    fraction = float((ratio < THRESHOLD).double().mean())
    return Memorised(fraction, binomial_error(fraction, len(ratio)), rows, ratio)
