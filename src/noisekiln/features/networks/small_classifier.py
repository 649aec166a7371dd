"""A small convolutional classifier that learns in seconds on a CPU, and its training."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.machine.transfer import module_to_device

BATCH = 128
PRESENTED = 240_000  # images, in all passes together: bounds the time for a large data set
MOST_PASSES = 15  # over a small one
LEARNING_RATE, WEIGHT_DECAY, SMOOTHING = 3e-3, 0.05, 0.1
WIDTHS = (32, 64, 128)
FEATURES = 128


class SmallClassifier(nn.Module):
    """Three convolutions of stride 2 with batch norm, a layer of 128 features, classes.

    Args:
        channels: Channels of the images.
        size: Their height and width.
        classes: Number of classes.
    """

    def __init__(self, channels: int, size: tuple[int, int], classes: int) -> None:
        super().__init__()
        self.channels, self.size = channels, size
        layers: list[nn.Module] = []
        height, width, inputs = *size, channels
        for outputs, kernel in zip(WIDTHS, (5, 3, 3), strict=True):
            layers += [nn.Conv2d(inputs, outputs, kernel, 2, kernel // 2, bias=False), nn.BatchNorm2d(outputs)]
            layers.append(nn.ReLU(inplace=True))
            height, width, inputs = (height + 1) // 2, (width + 1) // 2, outputs
        self.convolve = nn.Sequential(*layers)
        self.project = nn.Linear(inputs * height * width, FEATURES)
        self.classify = nn.Linear(FEATURES, classes)

    def features(self, images: Tensor) -> Tensor:
        """Images (B, H, W, C) uint8 of the network's size -> features (B, 128), none negative."""
        x = images.permute(0, 3, 1, 2).float().div(127.5).sub(1).contiguous(memory_format=torch.channels_last)
        hidden = F.dropout(self.convolve(x).flatten(1), 0.2, self.training)
        return F.relu(self.project(hidden))

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, H, W, C) uint8 of the network's size -> logits (B, K)."""
        logits: Tensor = self.classify(F.dropout(self.features(images), 0.3, self.training))
        return logits


@dataclass(frozen=True)
class FittedClassifier:
    """A network, and what it was fitted to.

    Args:
        network: The network.
        labels: The label of each of its classes, (K,) int64.
        images: Images that it learned from.
        held_out: Images that it did not learn from.
        correct: How many of those it puts into the right class.
    """

    network: SmallClassifier
    labels: Tensor
    images: int
    held_out: int
    correct: int


def train_small_classifier(images: Tensor, classes: Tensor, count: int, seed: int) -> SmallClassifier:
    """A classifier of images, trained with AdamW and a rate that rises and falls; frozen.

    Args:
        images: Images, (N, H, W, C) uint8.
        classes: Class of each, (N,) int64, from 0 to `count` - 1.
        count: Number of classes.
        seed: Seed of the weights, the order and the dropout. The state of the global generator is not changed.
    """
    device = images.device
    batch = min(BATCH, max(8, len(images) // 8))
    steps = max(1, min(MOST_PASSES * len(images), PRESENTED) // batch)
    passes = -(-steps * batch // len(images))
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        torch.manual_seed(seed)
        network = SmallClassifier(images.shape[3], (images.shape[1], images.shape[2]), count)
        module_to_device(network, device)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True)
        order = torch.cat([torch.randperm(len(images)) for _ in range(passes)]).to(device)
        for step in range(steps):
            share = (step + 0.5) / steps
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * min(10 * share, (1 - share) / 0.9)
            rows = order[batch * step : batch * (step + 1)]
            loss = F.cross_entropy(network(images[rows]), classes[rows], label_smoothing=SMOOTHING)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    return network.eval().requires_grad_(False)
