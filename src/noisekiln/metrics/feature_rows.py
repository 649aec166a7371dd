"""Features as rows: the one check of them, and their blocks in double precision."""

from collections.abc import Iterator

import torch
from torch import Tensor

BLOCK = 2048  # rows that are computed with at once: (2048, 2048) distances in float64 are 32 MiB


def check_features(*sets: Tensor, least: int = 2) -> None:
    """Check sets of features, (N, D) with one D, before they are compared.

    Raises:
        ValueError: If a set is no matrix, the sets differ in D, a set has fewer than `least` rows, or a feature is not
            finite.
    """
    shapes = [tuple(features.shape) for features in sets]
    fits = all(len(shape) == 2 and shape[0] >= least and shape[1] >= 1 for shape in shapes)
    if not fits or len({shape[1] for shape in shapes}) > 1:
        several = len(sets) > 1
        raise ValueError(
            f"Features of the shape{'s' * several} {' and '.join(map(str, shapes))} cannot be "
            f"{'compared' if several else 'scored'}. Give (N, D){' and (M, D)' * several}, with at least {least:,} "
            f"rows{' each' * several}."
        )
    if not all(block.isfinite().all() for features in sets for block in features.split(BLOCK)):
        raise ValueError(
            "Some features are not finite, so they have no distances. Check the images that they were computed from."
        )


def row_blocks(features: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Blocks of rows in float64, each with the number of its first row: the whole set is never copied."""
    for start in range(0, len(features), BLOCK):
        yield start, features[start : start + BLOCK].double()


def mean_row(features: Tensor) -> Tensor:
    """Mean of the rows, (D,) float64, and no copy of the set."""
    total = torch.zeros(features.shape[1], dtype=torch.float64)
    for _, block in row_blocks(features):
        total += block.sum(0)
    return total / len(features)
