"""The default features of images: EfficientNet where it is installed, else those of a classifier of their labels."""

from importlib.util import find_spec

import torch
from torch import Tensor

from noisekiln.features.base import FeatureExtractor
from noisekiln.features.classifier import FEWEST, Classifier
from noisekiln.features.efficientnet import PACKAGE, EfficientNet


def default_extractor(labels: Tensor | None) -> FeatureExtractor:
    """An extractor that needs no download: EfficientNet if installed, else a classifier if there are labels.

    Args:
        labels: Class of each image, (N,) int64; None if they have none.

    Raises:
        ValueError: If there is neither.
    """
    if find_spec(PACKAGE) is not None:
        return EfficientNet()
    counts = torch.zeros(0) if labels is None else labels.unique(return_counts=True)[1]
    if len(counts) > 1 and counts.min() >= FEWEST:
        return Classifier()
    raise ValueError(
        f"The package {PACKAGE.replace('_', '-')} is not installed, and the images have no classes of {FEWEST} images "
        'or more: there are no features to compare them by. Install it: pip install "noisekiln[evaluate]".'
    )
