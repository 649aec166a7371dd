"""`noisekiln train` and `noisekiln sample` as a user types them, timed as whole commands."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

COMMAND = [sys.executable, "-m", "noisekiln"]


class Trained(NamedTuple):
    """A finished run: its folder, seconds of the whole command, images seen, and seconds of training alone."""

    folder: Path
    seconds: float
    images_seen: int
    training_seconds: float

    @property
    def images_per_second(self) -> float:
        """Images per second of training, without start and reading."""
        return self.images_seen / self.training_seconds


class Sampled(NamedTuple):
    """Samples (N, H, W, C) uint8, sorted by class, their classes (N,), and seconds of the whole command."""

    images: Tensor
    labels: Tensor
    seconds: float


def train(data: str | Path, folder: Path, options: Sequence[str]) -> Trained:
    """Train in a folder, from the start: an earlier run there is removed, because it would be resumed.

    Raises:
        RuntimeError: If the command fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    seconds = _run("train", str(data), "--out", str(folder), *options)
    runs = sorted(folder.glob("stage[0-9]")) or [folder]  # those of a cascade, or the only one
    newest = [sorted((run / "checkpoints").glob("[0-9]*/state.json"))[-1] for run in runs]
    states = [json.loads(file.read_text(encoding="utf-8")) for file in newest]
    return Trained(
        folder, seconds, sum(state["images_seen"] for state in states), sum(state["seconds"] for state in states)
    )


def sample(run: Path, folder: Path, count: int, options: Sequence[str]) -> Sampled:
    """Sample `count` images, equally many of each class.

    Raises:
        RuntimeError: If the command fails.
    """
    shutil.rmtree(folder, ignore_errors=True)
    seconds = _run("sample", str(run), "--class", "all", "-n", str(count), "--out", str(folder), *options)
    listed = json.loads((folder / "samples.json").read_text(encoding="utf-8"))
    images = [np.asarray(Image.open(folder / each["file"])) for each in listed]
    labels = torch.tensor([each["label"] for each in listed])
    assert len(listed) == count, "the figures hold for this number of images only"
    assert torch.equal(labels.bincount(), torch.full((int(labels.max()) + 1,), count // (int(labels.max()) + 1)))
    pixels = torch.from_numpy(np.stack(images))
    return Sampled(pixels if pixels.ndim == 4 else pixels.unsqueeze(-1), labels, seconds)


def _run(*words: str) -> float:
    """Seconds of a command, from the start of its process to the end."""
    start_time = time.perf_counter()
    done = subprocess.run([*COMMAND, *words], check=False)
    if done.returncode:
        raise RuntimeError(
            f"`noisekiln {' '.join(words)}` ended with {done.returncode}, so there is nothing to measure."
        )
    return time.perf_counter() - start_time
