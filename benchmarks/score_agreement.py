"""Do KID and MIND of 500 images rank the checkpoints of a run as the Fréchet distance of 10,000 images does?

    python benchmarks/score_agreement.py train
    python benchmarks/score_agreement.py sample --steps 6
    python benchmarks/score_agreement.py judge --steps 6 --record records/score_agreement.json
    python benchmarks/score_agreement.py time

Needs Debian's `dataset-fashion-mnist` (or the four idx files in --data) and the `evaluate` and `test` extras. Sampling
takes an hour on two cores, and continues where it was stopped.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import kendalltau
from torch import Tensor

import noisekiln as nk
from noisekiln.data import load
from noisekiln.features.efficientnet import EfficientNet
from noisekiln.metrics.frechet import frechet_distance
from noisekiln.metrics.kid import kernel_distance
from noisekiln.metrics.mind import sliced_distance
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run

AT = (4_000, 8_000, 16_000, 32_000, 48_000, 80_000, 112_000, 160_000)
MANY, FEW, SETS = 10_000, 500, 3
REAL = 2_000  # real images that 500 samples are compared with, as in training


def main() -> None:
    """Train one run with eight copies of its model, sample each of them, and compare the scores."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["train", "sample", "judge", "time"])
    parser.add_argument("--data", default="/usr/share/datasets/fashion-mnist")
    parser.add_argument("--work", type=Path, default=Path(".bench/score_agreement"))
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    {"train": train, "sample": sample, "judge": judge, "time": time_scores}[arguments.part](arguments)


def train(arguments: argparse.Namespace) -> None:
    """One run, stopped at each of the eight numbers of images; its averaged model is copied there."""
    data, run = load(arguments.data), arguments.work / "run"
    for images in AT:
        opened = Run(Settings(data=arguments.data, images=AT[-1], curves="none"), data, run)
        for report in opened.steps():
            if report.images_seen >= images:
                break
        opened.save()
        shutil.copytree(run / "model", arguments.work / f"model_{images:06d}", dirs_exist_ok=True)


def sample(arguments: argparse.Namespace) -> None:
    """10,000 images of each model, equally many of each class, in files of 500."""
    labels = torch.arange(MANY) % 10
    for part in range(MANY // FEW):
        for images in AT:
            file = arguments.work / f"samples_{images:06d}_{part:02d}.npy"
            if file.exists():
                continue
            rows = slice(part * FEW, (part + 1) * FEW)
            model = nk.load(arguments.work / f"model_{images:06d}")
            made = model.sample(labels[rows].tolist(), seed=part * FEW, steps=arguments.steps, batch_size=100)
            np.save(file, np.asarray(made))
            print(file.name, flush=True)


def judge(arguments: argparse.Namespace) -> None:
    """Kendall's tau between each score at 500 images and the Fréchet distance at 10,000, over three sets of 500."""
    data, extract = load(arguments.data), EfficientNet().extract
    assert data.held_out is not None
    real = extract(torch.from_numpy(data.held_out.pixels))
    few_real = real[torch.randperm(len(real), generator=torch.Generator().manual_seed(0))]
    made = {images: extract(samples_of(arguments.work, images)) for images in AT}
    truth = {images: frechet_distance(features, real) for images, features in made.items()}
    record: dict[str, Any] = {"frechet_10000": rounded(truth), "steps": arguments.steps, "sets": SETS}
    statistics = {
        "mind": sliced_distance,
        "kid": lambda first, second: kernel_distance(first, second).value,
        "frechet": frechet_distance,
    }
    for reference, name in ((few_real[:REAL], "2,000 real"), (None, "500 real")):
        for statistic, of in statistics.items():
            taus, values = [], []
            for part in range(SETS):
                rows = slice(part * FEW, (part + 1) * FEW)
                against = few_real[rows] if reference is None else reference
                scores = {images: of(features[rows], against) for images, features in made.items()}
                taus.append(float(kendalltau(list(truth.values()), list(scores.values())).statistic))
                values.append(scores)
            record[f"{statistic}_500 against {name}"] = {
                "tau_mean": round(float(np.mean(taus)), 3),
                "tau_smallest": round(min(taus), 3),
                "first_set": rounded(values[0]),
            }
            print(statistic, name, taus, flush=True)
    print(json.dumps(record, indent=2))
    if arguments.record:
        arguments.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def time_scores(arguments: argparse.Namespace) -> None:
    """Seconds for the scores of 1,000 images of 32x32, beside 2,000 real ones; then again, from what is kept."""
    data = load(arguments.data)
    assert data.held_out is not None
    real, made = (np.pad(part.pixels, ((0, 0), (2, 2), (2, 2), (0, 0))) for part in (data.train, data.held_out))
    folder = arguments.work / "time"
    shutil.rmtree(folder, ignore_errors=True)
    for what in ("first", "again"):
        start_time = time.perf_counter()
        nk.evaluate(made[:1000], against=real[:5000], count=1000, out=folder)
        print(f"{what}: {time.perf_counter() - start_time:.1f} s")


def samples_of(work: Path, images: int) -> Tensor:
    """The 10,000 images of one model, (N, H, W, C) uint8."""
    files = sorted(work.glob(f"samples_{images:06d}_*.npy"))
    return torch.from_numpy(np.concatenate([np.load(file) for file in files]))


def rounded(scores: dict[int, float]) -> dict[str, float]:
    """Scores by the number of images, with five digits."""
    return {f"{images:,}": float(f"{score:.5g}") for images, score in scores.items()}


if __name__ == "__main__":
    main()
