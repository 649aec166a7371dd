"""Accuracy of classes: those that a classifier sees in samples, and those that samples teach a classifier."""

from torch import Tensor

from noisekiln.metrics.estimated import Estimated, binomial_error
from noisekiln.metrics.neighbours import nearest


def class_accuracy(predicted: Tensor, requested: Tensor) -> Estimated:
    """Share of samples whose predicted class is the requested one, with its binomial standard error.

    Args:
        predicted: Classes that a classifier sees, (N,) int64.
        requested: Classes that were generated, (N,) int64.

    Raises:
        ValueError: If these are not two equally long lists of classes.
    """
    _check_classes(predicted, requested)
    share = float((predicted == requested).double().mean())
    return Estimated(share, binomial_error(share, len(predicted)))


def classification_accuracy_score(samples: Tensor, classes: Tensor, real: Tensor, real_classes: Tensor) -> Estimated:
    """CAS: the share of real images that a classifier made from samples alone gives the right class.

    Ravuri & Vinyals 2019 train a network on the samples; here each real image has the class of the nearest sample, so
    that there is nothing to train or set. Both lack of quality and lack of variety lower it. Compare it with the score
    of real images in the place of the samples, at equal numbers.

    Args:
        samples: Features, (N, D).
        classes: Classes that were generated, (N,) int64.
        real: Features, (M, D).
        real_classes: Their classes, (M,) int64.

    Raises:
        ValueError: If the shapes do not fit, or a feature is not finite.
    """
    rows = nearest(real, samples).rows[:, 0]
    _check_classes(classes, samples[:, 0])
    return class_accuracy(classes[rows], real_classes)


def _check_classes(classes: Tensor, others: Tensor) -> None:
    if classes.shape != others.shape or classes.ndim != 1 or not len(classes):
        raise ValueError(
            f"Classes of the shapes {tuple(classes.shape)} and {tuple(others.shape)} cannot be compared. "
            "Give (N,) classes for N images, at least one."
        )
