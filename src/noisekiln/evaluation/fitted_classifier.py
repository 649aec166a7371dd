"""A classifier of real images, fitted once: by one process, and kept for the next evaluation."""

from contextlib import suppress
from pathlib import Path

from torch import Tensor

from noisekiln.errors import DataError
from noisekiln.evaluation.evaluation_cache import EvaluationCache, content_key
from noisekiln.features.classifier import Classifier
from noisekiln.files.array_cache import key_of


def fitted_classifier(
    classifier: Classifier, images: Tensor, labels: Tensor | None, cache: EvaluationCache
) -> Classifier:
    """The classifier, fitted to images, which takes up to a minute. All processes call this; the first one fits it.

    Fits differ between numbers of threads, so that the processes share one. Without a folder for it, each fits its own.

    Args:
        classifier: Its settings.
        images: Images, (N, H, W, C) uint8.
        labels: Their classes, (N,) int64.
        cache: Where that of an earlier evaluation is found.

    Raises:
        DataError: If the labels cannot be learned.
    """
    if cache.folder is None or labels is None:
        return classifier.fit(images, labels)
    file = cache.folder / f"classifier-{key_of(classifier, content_key(images), labels.tolist())}.safetensors"
    found = _loaded(file) if cache.ranks.is_main else None
    if cache.ranks.is_main and found is None:
        found = classifier.fit(images, labels)
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            found.save(file)
    cache.ranks.barrier()
    return found or _loaded(file) or classifier.fit(images, labels)


def _loaded(file: Path) -> Classifier | None:
    """None if it is not there, or damaged."""
    try:
        return Classifier.load(file)
    except DataError:
        return None
