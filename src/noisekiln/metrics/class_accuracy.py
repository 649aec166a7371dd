"""Accuracy of the classes that a classifier sees in samples, against those that were requested."""

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
    if predicted.shape != requested.shape or predicted.ndim != 1 or not len(predicted):
        raise ValueError(
            f"Classes of the shapes {tuple(predicted.shape)} and {tuple(requested.shape)} cannot be compared. "
            "Give (N,) predicted and (N,) requested classes."
        )
    share = float((predicted == requested).double().mean())
    return Estimated(share, binomial_error(share, len(predicted)))
