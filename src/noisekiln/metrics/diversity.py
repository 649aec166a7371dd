"""Diversity: the mean pairwise distance of features."""

from torch import Tensor

from noisekiln.metrics.feature_rows import check_features, row_blocks
from noisekiln.metrics.neighbours import squared_distances


def diversity(features: Tensor) -> float:
    """Mean Euclidean distance of two different rows, ``mean over i != j of |x_i - x_j|``; 0 if all are equal.

    Args:
        features: Features, (N, D), N >= 2.

    Raises:
        ValueError: If the shape does not fit, or a feature is not finite.
    """
    check_features(features)
    total = 0.0
    for start, block in row_blocks(features):
        for first, others in row_blocks(features[: start + len(block)]):
            distances = squared_distances(block, others).sqrt_()
            total += float(distances.sum()) * (1 if first == start else 2)
    return total / (len(features) * (len(features) - 1))
