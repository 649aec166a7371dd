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


def diversity_ratio(samples: Tensor, real: Tensor) -> float:
    """Diversity of samples over that of real images: 1 as diverse, 0 if all samples are equal.

    Raises:
        ValueError: If the shapes do not fit, a feature is not finite, or all real features are equal.
    """
    check_features(samples, real)
    reference = diversity(real)
    if not reference:
        raise ValueError(
            "All real images have the same features, so their diversity is 0 and nothing can be compared with it. "
            "Give different images, or choose other `features`."
        )
    return diversity(samples) / reference
