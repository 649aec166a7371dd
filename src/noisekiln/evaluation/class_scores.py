"""Whether samples show the requested classes, and whether a classifier can learn from them."""

from contextlib import suppress

import torch
from torch import Tensor

from noisekiln.data import Split
from noisekiln.errors import DataError
from noisekiln.evaluation.evaluation_cache import EvaluationCache, content_key, key_of
from noisekiln.evaluation.real_images import RealImages
from noisekiln.evaluation.score_table import ComparedScore, describe_score
from noisekiln.features.classifier import Classifier, classification_accuracy_score
from noisekiln.metrics.class_accuracy import class_accuracy
from noisekiln.metrics.estimated import Estimated

LEAST_OF_A_CLASS = 10  # training images of each class that a classifier can learn from


def class_scores(
    samples: Tensor, requested: Tensor | None, real: RealImages, cache: EvaluationCache
) -> list[ComparedScore]:
    """Accuracy of the requested classes, and of a classifier that learned from samples; empty without classes.

    Args:
        samples: Samples, (N, H, W, C) uint8.
        requested: Class of each sample, (N,) int64; None if there are no classes.
        real: The real images.
        cache: Where the classifier of an earlier evaluation is found.
    """
    training, tested = real.training, real.held_out or real.pool
    if requested is None or training is None or training.labels is None or tested.labels is None:
        return []
    if int(torch.from_numpy(training.labels).bincount().min()) < LEAST_OF_A_CLASS or len(requested.unique()) < 2:
        return []
    classifier = _fitted(*_tensors(training), cache)
    images, labels = _tensors(tested)
    found = class_accuracy(classifier.predict(samples), requested)
    expected = class_accuracy(classifier.predict(images), labels)
    scores = [describe_score("accuracy", found, expected)]
    pool = _tensors(real.pool) if real.pool.labels is not None else None
    if pool is not None and int(requested.bincount().min()) >= LEAST_OF_A_CLASS:
        learned = classification_accuracy_score(samples, requested, images, labels)
        half = real.count  # as many real images as samples
        bound = classification_accuracy_score(pool[0][:half], pool[1][:half], images, labels)
        scores.append(describe_score("cas", Estimated(learned, 0.0), Estimated(bound, 0.0)))
    return scores


def _tensors(part: Split) -> tuple[Tensor, Tensor]:
    assert part.labels is not None
    return torch.from_numpy(part.pixels), torch.from_numpy(part.labels)


def _fitted(images: Tensor, labels: Tensor, cache: EvaluationCache) -> Classifier:
    """A classifier of real images, which takes up to a minute to fit."""
    if cache.folder is None:
        return Classifier().fit(images, labels)
    file = cache.folder / f"classifier-{key_of(content_key(images), labels.tolist())}.safetensors"
    with suppress(DataError):  # it is not there, or damaged
        return Classifier.load(file)
    classifier = Classifier().fit(images, labels)
    if cache.ranks.is_main:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            classifier.save(file)
    return classifier
