"""Whether samples show the requested classes, and whether a classifier can learn from them."""

import torch
from torch import Tensor

from noisekiln.data import Split
from noisekiln.evaluation.default_features import learnable
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.evaluation.fitted_classifier import fitted_classifier
from noisekiln.evaluation.real_images import RealImages
from noisekiln.evaluation.score_table import ComparedScore, describe_score
from noisekiln.features.classifier import FEWEST, Classifier
from noisekiln.metrics.class_accuracy import class_accuracy
from noisekiln.metrics.estimated import Estimated

UNKNOWN = "class accuracy and CAS are left out: they need held-out images with the classes of the training images"
TOO_FEW = f"left out: a classifier learns from {FEWEST} images of each class or more"


def class_scores(
    samples: Tensor, requested: Tensor | None, real: RealImages, cache: EvaluationCache
) -> tuple[list[ComparedScore], list[str]]:
    """Accuracy of the requested classes, and of a classifier that learned from samples (CAS); and what is left out.

    Both are tested on held-out images. Real images stand in the place of the samples: held-out ones for the accuracy,
    and for the CAS as many training images as there are samples.

    Args:
        samples: Samples, (N, H, W, C) uint8.
        requested: Class of each sample, (N,) int64; None if there are no classes.
        real: The real images.
        cache: Where the classifier of an earlier evaluation is found.
    """
    training, tested = real.training, real.held_out
    if requested is None:
        return [], []
    if training is None or training.labels is None or tested is None or tested.labels is None:
        return [], [UNKNOWN]
    images, labels = torch.from_numpy(training.pixels), torch.from_numpy(training.labels)
    if not learnable(labels):
        return [], [f"class accuracy and CAS are {TOO_FEW}"]
    classifier = fitted_classifier(Classifier(), images, labels, cache)
    accuracy = describe_score("accuracy", _accuracy(classifier, samples, requested), _of_split(classifier, tested))
    count = len(samples)
    if not learnable(requested) or not learnable(labels[:count]):
        return [accuracy], [f"CAS is {TOO_FEW}: evaluate more samples"]
    found, expected = (
        _of_split(Classifier().fit(*each), tested) for each in ((samples, requested), (images[:count], labels[:count]))
    )
    return [accuracy, describe_score("cas", found, expected)], []


def _of_split(classifier: Classifier, part: Split) -> Estimated:
    assert part.labels is not None
    return _accuracy(classifier, torch.from_numpy(part.pixels), torch.from_numpy(part.labels))


def _accuracy(classifier: Classifier, images: Tensor, labels: Tensor) -> Estimated:
    return class_accuracy(classifier.predict(images), labels)
