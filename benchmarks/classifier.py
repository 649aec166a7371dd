"""The small classifier whose features and verdicts the benchmarks use.

It stays as it is, whatever becomes of `noisekiln.features.classifier`: figures of records/ are ratios in the features
of this network, and the judge of a race must not change while it is run.
"""

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.data import load
from noisekiln.metrics.class_accuracy import class_accuracy
from noisekiln.metrics.frechet import frechet_distance

FASHION_MNIST = "/usr/share/datasets/fashion-mnist"  # Debian's package dataset-fashion-mnist
FASHION_CLASSIFIER = Path(".bench/fashion_mnist/classifier.pt")


class Classifier(nn.Module):
    """Two 3x3 convolutions (32, 64), max-pooling, 128 features, classes: the classic example network for MNIST."""

    def __init__(self, channels: int, side: int, classes: int) -> None:
        super().__init__()
        self.convolve = nn.Sequential(
            nn.Conv2d(channels, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
        )
        self.features = nn.Sequential(nn.Flatten(), nn.Linear(64 * ((side - 4) // 2) ** 2, 128), nn.ReLU())
        self.classes = nn.Sequential(nn.Dropout(0.5), nn.Linear(128, classes))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of images (N, H, W, C) uint8."""
        logits: Tensor = self.classes(self.features(self.convolve(_scaled(images))))
        return logits

    @torch.no_grad()
    def judge(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Features (N, 128) and predicted classes (N,) of images (N, H, W, C) uint8."""
        self.eval()
        features = torch.cat([self.features(self.convolve(_scaled(part))) for part in images.split(500)])
        return features, self.classes(features).argmax(1)


def _scaled(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().div(255).sub(0.5).div(0.5)


def trained_classifier(images: Tensor, labels: Tensor, file: Path, epochs: int = 6) -> Classifier:
    """Train on (N, H, W, C) uint8 images, or load the weights that an earlier call left in `file`."""
    classifier = Classifier(images.shape[3], images.shape[1], int(labels.max()) + 1)
    if file.exists():
        classifier.load_state_dict(torch.load(file, weights_only=True))
        return classifier
    torch.manual_seed(0)
    classifier = Classifier(images.shape[3], images.shape[1], int(labels.max()) + 1)
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=1e-3, fused=True)
    steps = epochs * (len(images) // 128)
    classifier.train()
    order = torch.cat([torch.randperm(len(images)) for _ in range(epochs)])
    for i in range(steps):
        rows = order[128 * i : 128 * i + 128]
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 - i / steps)
        F.cross_entropy(classifier(images[rows]), labels[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(classifier.state_dict(), file)
    return classifier


def balanced(labels: Tensor, count: int, draw: int) -> Tensor:
    """Rows of `count` images with equally many of each class; different draws share no rows."""
    classes = int(labels.max()) + 1
    each = count // classes
    rows = [torch.nonzero(labels == c).flatten() for c in range(classes)]
    shuffled = [r[torch.randperm(len(r), generator=torch.Generator().manual_seed(0))] for r in rows]
    return torch.cat([r[draw * each : (draw + 1) * each] for r in shuffled])


class Judge:
    """Fréchet distance to test images as a ratio to that of real training images at the same n, and accuracy.

    Args:
        classifier: Whose features.
        train: Images and labels of the training part.
        test: Images and labels of the test part.
        n: Images in each set.
        draws: Sets of real training images over which the floor is averaged.
    """

    def __init__(
        self,
        classifier: Classifier,
        train: tuple[Tensor, Tensor],
        test: tuple[Tensor, Tensor],
        n: int = 1000,
        draws: int = 8,
    ) -> None:
        self.classifier = classifier
        verdict = classifier.judge(test[0])[1]
        self.test_accuracy = class_accuracy(verdict, test[1]).value
        self.reference = classifier.judge(test[0][balanced(test[1], n, 0)])[0]
        real = [classifier.judge(train[0][balanced(train[1], n, draw)])[0] for draw in range(draws)]
        self.floor = sum(frechet_distance(features, self.reference) for features in real) / draws

    def __call__(self, images: Tensor, labels: Tensor) -> tuple[float, float]:
        """(Fréchet ratio, accuracy on the requested classes) of n images (n, H, W, C) uint8."""
        features, verdict = self.classifier.judge(images)
        assert len(images) == len(self.reference), "the floor holds for the same number of images only"
        return frechet_distance(features, self.reference) / self.floor, class_accuracy(verdict, labels).value


def train_and_test(data: str | Path = FASHION_MNIST) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """Images (N, H, W, C) uint8 and classes of the training part and of the test part of labelled data."""
    whole = load(str(data))
    assert whole.held_out is not None
    train, test = ((torch.from_numpy(p.pixels), torch.from_numpy(p.labels)) for p in (whole.train, whole.held_out))
    return train, test
