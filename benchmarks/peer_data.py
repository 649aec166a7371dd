"""What the script of every peer shares: its command line, the training images, and the file of its samples.

Runs in a peer's own environment, without noisekiln: numpy and torch are all that it needs.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

STEPS = 20  # of sampling, where a peer's README has hundreds: a sampling step costs as much as it does in noisekiln


class Budget:
    """Counts images until the minutes of training are over; the clock starts with the first batch."""

    def __init__(self, minutes: float) -> None:
        self.limit = 60 * minutes
        self.images_seen = 0
        self.seconds = 0.0
        self._start_time: float | None = None

    def left(self) -> bool:
        """Whether there is time for another step."""
        if self._start_time is None:
            self._start_time = time.perf_counter()
        self.seconds = time.perf_counter() - self._start_time
        return self.seconds < self.limit


def run_peer(contender: Callable[[Tensor, Tensor, Tensor, Budget], Tensor]) -> None:
    """Call a peer with what stands on the command line, and write its samples and figures.

    Args:
        contender: Training images (N, C, H, W) uint8, their classes, the classes to sample and a budget -> samples
            (M, C, H, W), floats in [-1, 1].
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path, help="archive of images (N, H, W, C) uint8, labels (N,), and requested (M,)")
    parser.add_argument("out", type=Path, help="archive for the samples, (M, H, W, C) uint8, and the figures")
    parser.add_argument("--minutes", type=float, required=True)
    arguments = parser.parse_args()
    arrays = {name: torch.from_numpy(array) for name, array in np.load(arguments.data).items()}
    torch.manual_seed(0)
    budget = Budget(arguments.minutes)
    images = arrays["images"].permute(0, 3, 1, 2)
    samples = contender(images, arrays["labels"], arrays["requested"], budget)
    figures = {"images_seen": budget.images_seen, "images_per_second": round(budget.images_seen / budget.seconds, 1)}
    pixels = ((samples.detach().nan_to_num().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
    np.savez_compressed(arguments.out, images=pixels.numpy(), figures=np.array(json.dumps(figures)))


def in_parts(sample: Callable[[Tensor], Tensor], requested: Tensor, size: int = 250) -> Tensor:
    """Samples of the requested classes, a part of them at a time, without gradients."""
    with torch.no_grad():
        return torch.cat([sample(part) for part in requested.split(size)])
