"""Features of images from the network of a run, for images that no other network knows."""

from pathlib import Path

from noisekiln.features.base import FeatureExtractor


def denoiser_features(folder: Path, *, device: str = "cpu", allow_code: bool = False) -> FeatureExtractor:
    """The features of a run's network in its middle."""
    raise NotImplementedError
