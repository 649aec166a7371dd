"""Accuracy of classes: those that a classifier sees in images, and those that these should show."""

from torch import Tensor

from noisekiln.metrics.estimated import Estimated, binomial_error


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


def _check_classes(classes: Tensor, others: Tensor) -> None:
    if classes.shape != others.shape or classes.ndim != 1 or not len(classes):
        raise ValueError(
            f"Classes of the shapes {tuple(classes.shape)} and {tuple(others.shape)} cannot be compared. "
            "Give (N,) classes for N images, at least one."
        )
