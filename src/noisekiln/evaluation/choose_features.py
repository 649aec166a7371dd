"""The features that an evaluation compares: of a frozen network, a classifier of the labels, or a denoiser."""

import torch
from torch import Tensor

from noisekiln.components.spec import build, with_defaults
from noisekiln.evaluation.default_features import default_extractor
from noisekiln.evaluation.denoiser_features import denoiser_features
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.evaluation.fitted_classifier import fitted_classifier
from noisekiln.evaluation.real_images import RealImages
from noisekiln.features.base import FeatureExtractor
from noisekiln.features.classifier import Classifier
from noisekiln.paths import expand_home

AUTO = "auto"


def choose_features(
    features: str,
    weights: str | None,
    real: RealImages,
    cache: EvaluationCache,
    *,
    device: str = "cpu",
    allow_code: bool = False,
) -> FeatureExtractor:
    """The extractor of features that was requested, fitted to the real images.

    Args:
        features: auto, the spec of an extractor, or the folder of a run, for the features of its denoiser.
        weights: File of the network's weights, for an extractor that needs one.
        real: The real images.
        cache: Where the classifier of an earlier evaluation is found.
        device: Device of a denoiser.
        allow_code: Whether a denoiser may run components from Python files of its author.

    Raises:
        ValueError: If there is no such extractor, or it lacks its package or its weights.
    """
    part = real.training if real.training is not None else real.pool
    images, labels = torch.from_numpy(part.pixels), None if part.labels is None else torch.from_numpy(part.labels)
    extractor = _requested(features, weights, labels, device, allow_code)
    if isinstance(extractor, Classifier):
        return fitted_classifier(extractor, images, labels, cache)
    return extractor.fit(images, labels)


def _requested(
    features: str, weights: str | None, labels: Tensor | None, device: str, allow_code: bool
) -> FeatureExtractor:
    folder = expand_home(features)
    if features != AUTO and folder.is_dir():
        return denoiser_features(folder, device=device, allow_code=allow_code)
    if features != AUTO:
        spec = features if weights is None else with_defaults(FeatureExtractor, features, {"weights": weights})
        return build(FeatureExtractor, spec)
    if weights is not None:
        raise ValueError(
            f"`weights={weights}` was given without a network that reads this file. Give `features=inception`, too."
        )
    return default_extractor(labels)
