"""Distances between samples of a model and images of the data: KID and MIND of their features."""

import time
from typing import Any, NamedTuple

import torch
from torch import Tensor

from noisekiln.conditioners.base import Value
from noisekiln.data import DataSet, Split, batch_order
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import DataError, counted
from noisekiln.evaluation.real_images import MEANINGFUL
from noisekiln.features.base import FeatureExtractor
from noisekiln.metrics.kid import kernel_distance
from noisekiln.metrics.mind import sliced_distance
from noisekiln.model.diffusion import Diffusion
from noisekiln.monitor.held_out import some_images
from noisekiln.monitor.preview import generate_previews

SAMPLES = 500  # at this number, KID and MIND rank the checkpoints of a run
MOST_REAL = 2_000  # images of the data that samples are compared with
BYTES_FITTED = 128 << 20  # of the images that an extractor is fitted to: 40,000 of 32x32 in colour
AT_ONCE = 512  # images on the device
LEAST_REAL = 20


class Distances(NamedTuple):
    """How far samples are from images of the data, by their features."""

    kid: float
    kid_error: float
    mind: float


class SampleScores:
    """Compares samples of fixed seeds, conditions and sources with images of the data.

    The conditions are those of training images, drawn at random: classes are as frequent as in the data. The images are
    held-out ones if there are as many as samples, else training images, at most 2,000. With a task, sources are made of
    held-out images if there are as many, else of training images; samples are compared with (other) training images.

    Args:
        data: The images.
        extractor: Extractor of features, not fitted yet.
        unconditional: Whether to sample without conditions, because training has none.
        task: Whether samples start from sources.

    Attributes:
        seconds_per_image: Seconds of the features of an image, in the process that computes them; else 0.

    Raises:
        DataError: If there are too few images.
    """

    def __init__(self, data: DataSet, extractor: FeatureExtractor, *, unconditional: bool, task: bool) -> None:
        self.data, self.unconditional = data, unconditional
        held_out = data.held_out if data.held_out is not None and len(data.held_out) >= SAMPLES else None
        self.conditioned_on = held_out if task and held_out is not None else data.train
        real = data.train if task or held_out is None else held_out
        self._real, self._count = real, min(MOST_REAL, len(real))
        self.real_name = counted(self._count, "held-out image" if real is held_out else "training image")
        if self._count < LEAST_REAL:
            raise DataError(
                data.name,
                f"`score` compares samples with its images, and {self.real_name} are too few",
                f"Give {LEAST_REAL} images or more, or omit `score`",
            )
        self.extractor = extractor
        self._features = torch.zeros(0)
        self.seconds_per_image = 0.0

    @property
    def notes(self) -> list[str]:
        """A note on too few images, if they are."""
        if self._count >= MEANINGFUL:
            return []
        return [f"scores against {self.real_name} are mostly chance; from {MEANINGFUL} on they mean something"]

    @property
    def measured_by(self) -> dict[str, str]:
        """Features and images, in words."""
        return self.extractor.describe() | {"images": self.real_name}

    def prepare(self, ranks: Ranks, device: str) -> None:
        """Fit the extractor, and compute the features of the real images, in the first process."""
        if not ranks.is_main:
            return
        train = self.data.train
        most = max(LEAST_REAL, BYTES_FITTED // train.pixels[:1].nbytes)
        part = some_images(train, min(most, len(train)))
        labels = None if part.labels is None else torch.from_numpy(part.labels)
        self.extractor = self.extractor.fit(torch.from_numpy(part.pixels), labels)
        start = time.perf_counter()
        self._features = self.features(torch.from_numpy(some_images(self._real, self._count).pixels), device)
        self.seconds_per_image = (time.perf_counter() - start) / self._count

    def features(self, images: Tensor, device: str) -> Tensor:
        """Features of images (N, H, W, C) uint8, computed on the device."""
        return torch.cat([self.extractor.extract(part.to(device)) for part in images.split(AT_ONCE)])

    def samples(self, model: Diffusion, count: int, ranks: Ranks, **options: Any) -> Tensor:
        """Samples, (count, H, W, C) uint8. All processes call this, each makes some, and all receive all.

        Args:
            model: Model to sample.
            count: Number of samples.
            ranks: Processes.
            options: Options of `generate_previews`.
        """
        part = self.conditioned_on
        rows = part.take(batch_order(len(part), seed=1, start=0, count=count))
        if model.task is not None:
            options["source"] = model.task.sources_of(rows)
        return torch.from_numpy(generate_previews(model, self._conditions(model, rows), ranks, **options))

    def distances(self, samples: Tensor, ranks: Ranks, device: str) -> Distances:
        """Distances of samples to the real images, computed by the first process; all call this, after `prepare`."""
        found = Distances(0.0, 0.0, 0.0)
        if ranks.is_main:
            features = self.features(samples, device)
            kid = kernel_distance(features, self._features)
            found = Distances(kid.value, kid.standard_error, sliced_distance(features, self._features))
        return Distances(*ranks.all_reduce_sum(found))

    def _conditions(self, model: Diffusion, rows: Split) -> list[Value | None]:
        conditioner = None if self.unconditional else model.conditioner
        values = None if conditioner is None else conditioner.values(rows, self.data.class_names)
        return [None] * len(rows) if values is None else list(values)
