"""A small classifier, fitted to the labels of the data: its features, and the classes that it predicts."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError
from torch import Tensor

from noisekiln.errors import DataError, counted, listed
from noisekiln.features.base import FeatureExtractor, check_images, resized
from noisekiln.features.networks.small_classifier import (
    FEATURES,
    FittedClassifier,
    SmallClassifier,
    train_small_classifier,
)
from noisekiln.files.model_folder import digest, read_weights, write_weights
from noisekiln.machine.transfer import module_to_device

FEWEST = 10  # images in a class: one of ten is held out
HELD_OUT, MOST_HELD_OUT = 0.1, 10_000
GREY = (0.299, 0.587, 0.114)  # weights of red, green and blue (ITU-R BT.601), for a network that was fitted to grey


@dataclass(frozen=True)
class Classifier(FeatureExtractor):
    """A classifier with 128 features that learns the labels of the data in less than a minute on two CPU cores.

    It depends on the seed, on the images and their order, and, as any training on a CPU, on the number of threads:
    processes that must agree share one (`save`, `load`).

    Args:
        side: Longest side of the images that the network sees; larger images are resized.
        seed: Seed of its weights, and of the images that are held out.
    """

    side: int = 32
    seed: int = 0
    fitted: FittedClassifier | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if not 8 <= self.side <= 256 or not 0 <= self.seed < 2**63:
            raise ValueError(
                f"classifier(side={self.side}, seed={self.seed}): the network sees images of 8 to 256 pixels, and a "
                "seed is not negative. Give other numbers."
            )

    @property
    def batch_size(self) -> int:  # noqa: D102 (the base class says it)
        return 512

    @property
    def accuracy(self) -> float:
        """Share of held-out images that it puts into the right class."""
        fitted = self._fitted()
        return fitted.correct / fitted.held_out

    def fit(self, images: Tensor, labels: Tensor | None = None) -> Self:
        """A classifier of these images, which learns from nine tenths of each class and is tested on the others.

        Raises:
            DataError: If there are no labels, fewer than two classes, or fewer than ten images in a class.
        """
        check_images(images)
        found, classes = _check_learnable(images, labels)
        classes = classes.to(images.device)
        held_out = _mask_held_out(classes, self.seed)
        longest = max(images.shape[1:3])
        height, width = (max(8, round(side * min(1, self.side / longest))) for side in images.shape[1:3])
        seen = torch.cat([_as_seen(part, images.shape[3], (height, width)) for part in images.split(self.batch_size)])
        network = train_small_classifier(seen[~held_out], classes[~held_out], len(found), self.seed)
        count = int(held_out.sum())
        fitted = FittedClassifier(network, found, len(images) - count, count, 0)
        predicted = self._with(fitted).predict(images[held_out])
        return self._with(replace(fitted, correct=int((predicted == found[classes[held_out].cpu()]).sum())))

    def features_of(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        network = self._network(images.device)
        return network.features(_as_seen(images, network.channels, network.size))

    def predict(self, images: Tensor) -> Tensor:
        """The label of the most probable class of each image, (N,) int64 on the CPU.

        Args:
            images: Images, (N, H, W, C) uint8, with 1 channel or 3, of any size.
        """
        features = self.extract(images)
        with torch.no_grad():
            classes = self._network(features.device).classify(features).argmax(1)
        return self._fitted().labels[classes]

    def describe(self) -> dict[str, str]:  # noqa: D102 (the base class says it)
        name = f"classifier of the data's own labels, {FEATURES} features"
        if self.fitted is None:
            return {"name": name, "version": "not fitted yet", "preprocessing": "that of the images it is fitted to"}
        fitted = self.fitted
        (height, width), classes = fitted.network.size, len(fitted.labels)
        kind = "grey" if fitted.network.channels == 1 else "colour"
        return {
            "name": name,
            "version": f"fitted to {counted(fitted.images, 'image')} of {classes} classes, seed {self.seed}, "
            f"sha256 {digest(_as_tensors(fitted))[:16]}",
            "preprocessing": f"{kind}; larger or smaller images bilinear to {height}x{width}, antialiased and rounded; "
            "pixel / 127.5 - 1",
            "held-out accuracy": f"{self.accuracy:.4f} on {counted(fitted.held_out, 'image')}",
        }

    def save(self, file: Path) -> None:
        """Write the fitted classifier to a file in the format of safetensors."""
        write_weights(_as_tensors(self._fitted()) | {"settings": torch.tensor([self.side, self.seed])}, file)

    @classmethod
    def load(cls, file: Path) -> Self:
        """The classifier that `save` wrote.

        Raises:
            DataError: If the file holds something else, or is damaged.
        """
        try:
            weights = read_weights(file)
            side, seed = weights.pop("settings").tolist()
            labels, (channels, height, width, *counts) = weights.pop("labels"), weights.pop("numbers").tolist()
            with torch.device("meta"):  # without random weights, which would be drawn from the global generator
                network = SmallClassifier(channels, (height, width), len(labels))
            network.load_state_dict(weights, assign=True)
        except (KeyError, ValueError, OSError, RuntimeError, SafetensorError) as error:
            raise DataError(
                str(file),
                f"no fitted classifier can be read from it ({error})",
                "Remove it, and fit a classifier again",
            ) from error
        module_to_device(network, "cpu").eval().requires_grad_(False)
        return cls(side, seed)._with(FittedClassifier(network, labels, *counts))

    def _with(self, fitted: FittedClassifier) -> Self:
        copy = replace(self)
        object.__setattr__(copy, "fitted", fitted)  # no setting: it is neither compared nor part of a spec
        return copy

    def _fitted(self) -> FittedClassifier:
        if self.fitted is None:
            raise ValueError(
                "This classifier has seen no images yet. Call its `fit(images, labels)`, and use the result."
            )
        return self.fitted

    def _network(self, device: torch.device) -> SmallClassifier:
        return self._fitted().network.to(device)


def _check_learnable(images: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor]:
    """The labels that occur, (K,) int64, and each image's place among them, (N,) int64."""
    subject = counted(len(images), "image")
    if labels is None:
        raise DataError(subject, "they have no labels that a classifier could learn", "Choose other features")
    if tuple(labels.shape) != (len(images),) or labels.is_floating_point():
        raise DataError(
            f"{subject} and labels of the shape {tuple(labels.shape)} and the type {labels.dtype}",
            "each image has one whole number as its label",
            "Give labels (N,) as int64",
        )
    found, classes, counts = labels.long().cpu().unique(return_inverse=True, return_counts=True)
    if len(found) < 2:
        raise DataError(
            subject, f"they have {counted(len(found), 'class', 'classes')}, and a classifier tells at least two apart",
            "Choose other features",
        )  # fmt: skip
    few = [
        f"class {label}: {count}"
        for label, count in zip(found.tolist(), counts.tolist(), strict=True)
        if count < FEWEST
    ]
    if few:
        raise DataError(
            f"{subject} of {len(found)} classes",
            f"a classifier needs {FEWEST} images of each class, and some have fewer ({listed(few, 5)})",
            "Add images, leave those classes out, or choose other features",
        )
    return found, classes


def _mask_held_out(classes: Tensor, seed: int) -> Tensor:
    """A mask of the images that are held out: a share of each class, and at least one."""
    share = min(HELD_OUT, MOST_HELD_OUT / len(classes))
    mask = torch.zeros_like(classes, dtype=torch.bool)
    generator = torch.Generator().manual_seed(seed)
    for each in range(int(classes.max()) + 1):
        rows = torch.nonzero(classes == each).flatten()
        chosen = torch.randperm(len(rows), generator=generator)[: max(1, round(share * len(rows)))]
        mask[rows[chosen.to(rows.device)]] = True
    return mask


def _as_seen(images: Tensor, channels: int, size: tuple[int, int]) -> Tensor:
    """Images (B, H, W, C) uint8 in the size and the channels of a network, uint8."""
    x = images
    if images.shape[3] > channels:
        x = (images.float() @ torch.tensor(GREY, device=images.device)).round().to(torch.uint8)[..., None]
    if images.shape[1:3] != size:
        floats = resized(x.permute(0, 3, 1, 2).float(), size)
        x = floats.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
    return x.expand(-1, -1, -1, channels)


def _as_tensors(fitted: FittedClassifier) -> dict[str, Tensor]:
    """Everything that a fitted classifier is, as tensors."""
    network = fitted.network
    numbers = torch.tensor([network.channels, *network.size, fitted.images, fitted.held_out, fitted.correct])
    return dict(network.state_dict()) | {"labels": fitted.labels, "numbers": numbers}
