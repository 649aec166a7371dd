"""Is noisekiln still as good and as fast? A run of two minutes against stored bounds: `make bench-check`.

    python benchmarks/check.py
    python benchmarks/check.py --store

Fashion-MNIST if Debian's `dataset-fashion-mnist` is installed, otherwise the bundled portraits; --data fashion_mnist or
portraits says which. The number of images and the seed are fixed, so the quality depends on no machine, and its bounds
hold everywhere. Speed is images per second of training over the GFLOP/s of a matrix product here; its bound holds for
processors of one kind. The exit code is 1 if a bound is broken. --store measures three seeds and writes the bounds.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch

import commands
from classifier import FASHION_CLASSIFIER, FASHION_MNIST, Judge, train_and_test, trained_classifier
from hardware import commit, hardware, hardware_line, is_busy, machine_kind, matrix_gflops
from noisekiln import load as load_model
from noisekiln.data import load
from noisekiln.logs.json_lines import read_metrics
from portrait_colours import agreement

BOUNDS = Path(__file__).resolve().parents[1] / "records" / "bounds.json"
HIGHER_IS_BETTER = frozenset({"accuracy", "colours", "images_per_gflop"})
SPREADS, MARGIN = 4.0, 0.03  # a bound is this many standard deviations of the seeds, and this share, from their mean
SPEED_MARGIN = 0.2
SEEDS = (0, 1, 2)


@dataclass(frozen=True)
class Subject:
    """What is trained on, for how many images, and how the result is measured.

    Attributes:
        data: Data of `noisekiln train`.
        images: Budget in images.
        quality: Folder of a run -> figures.
    """

    data: str
    images: int
    quality: Callable[[Path], dict[str, float]]


@dataclass(frozen=True)
class Row:
    """A line of the table: a figure, its bound, and whether it holds (None: there is no bound)."""

    name: str
    value: float
    bound: float | None

    @property
    def holds(self) -> bool | None:
        """Whether the figure is within its bound."""
        if self.bound is None:
            return None
        return self.value >= self.bound if self.name in HIGHER_IS_BETTER else self.value <= self.bound


def main() -> None:
    """Measure, and compare with the bounds or store them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", choices=sorted(SUBJECTS), help="default: fashion_mnist if it is installed")
    parser.add_argument("--store", action="store_true", help="measure three seeds, and write the bounds")
    parser.add_argument("--images", type=int, help="another budget, for a try: there are no bounds for it")
    parser.add_argument("--work", type=Path, default=Path(".bench/check"))
    parser.add_argument("--bounds", type=Path, default=BOUNDS)
    arguments = parser.parse_args()
    name = arguments.data or ("fashion_mnist" if Path(FASHION_MNIST).is_dir() else "portraits")
    subject = SUBJECTS[name]
    images = arguments.images or subject.images
    machine = hardware()
    print(f"{name}, {images:,} images, on {hardware_line(machine)}", flush=True)
    if is_busy(machine):
        print("Something else is running on this machine: the speed does not count.", flush=True)

    def figures(seed: int) -> dict[str, float]:
        return measured(subject, images, seed, arguments.work)

    stored = json.loads(arguments.bounds.read_text(encoding="utf-8")) if arguments.bounds.exists() else {}
    if arguments.store:
        stored[name] = bounds_of([figures(seed) for seed in SEEDS], images, machine, stored.get(name, {}))
        arguments.bounds.write_text(json.dumps(stored, indent=2) + "\n", encoding="utf-8")
        print(json.dumps(stored[name], indent=2))
        return
    known = stored.get(name, {}) if stored.get(name, {}).get("images") == images else {}
    rows = compared(figures(SEEDS[0]), known, machine_kind(machine))
    print(report(rows, machine_kind(machine)))
    if not known:
        sys.exit(f"There are no bounds for {name} with {images:,} images, so this says nothing: --store measures them.")
    sys.exit(1 if any(row.holds is False for row in rows) else 0)


def measured(subject: Subject, images: int, seed: int, work: Path) -> dict[str, float]:
    """Figures of one run: its quality, and images of training per GFLOP of a matrix product (before and after)."""
    before = matrix_gflops()
    options = ["--images", str(images), "--seed", str(seed), "--model", "s", "--device", "cpu", "--curves", "none"]
    trained = commands.train(subject.data, work / f"run_{seed}", options)
    rate = (before + matrix_gflops()) / 2
    held_out = [line["held_out"] for line in read_metrics(trained.folder) if "held_out" in line]
    return {
        "held_out_loss": held_out[-1],
        **subject.quality(trained.folder),
        "images_per_gflop": trained.images_per_second / rate,
    }


def compared(figures: Mapping[str, float], known: Mapping[str, Any], kind: str) -> list[Row]:
    """Each figure beside its bound; speed has the bound of this kind of machine, if there is one."""
    bounds = {**known.get("quality", {}), "images_per_gflop": known.get("speed", {}).get(kind)}
    return [Row(name, value, (bounds.get(name) or {}).get("bound")) for name, value in figures.items()]


def bounds_of(
    runs: Sequence[Mapping[str, float]], images: int, machine: Mapping[str, Any], earlier: Mapping[str, Any]
) -> dict[str, Any]:
    """Bounds from the figures of several seeds; those of the speed of other machines are kept."""
    machine = dict(machine)
    quality = {name: bound(name, [run[name] for run in runs]) for name in runs[0] if name != "images_per_gflop"}
    speeds = [run["images_per_gflop"] for run in runs]
    speed = {"measured": [round(each, 3) for each in speeds], "bound": round((1 - SPEED_MARGIN) * min(speeds), 3)}
    return {
        "images": images,
        "commit": commit(),
        "torch": torch.__version__,
        "quality": quality,
        "speed": {**earlier.get("speed", {}), machine_kind(machine): speed | {"hardware": hardware_line(machine)}},
    }


def bound(name: str, values: Sequence[float]) -> dict[str, Any]:
    """``mean +- max(4 standard deviations, 3 %)`` of what several seeds gave, on the worse side."""
    room = max(SPREADS * stdev(values), MARGIN * mean(values))
    worse = mean(values) - room if name in HIGHER_IS_BETTER else mean(values) + room
    return {"measured": [round(each, 4) for each in values], "bound": round(worse, 4)}


def report(rows: Sequence[Row], kind: str) -> str:
    """The table, and what has no bound."""
    lines = [f"{'figure':<20}{'measured':>12}{'bound':>12}  "]
    for row in rows:
        limit = "-" if row.bound is None else f"{'>=' if row.name in HIGHER_IS_BETTER else '<='} {row.bound:.4g}"
        word = {True: "holds", False: "WORSE", None: "no bound"}[row.holds]
        lines.append(f"{row.name:<20}{row.value:>12.4g}{limit:>12}  {word}")
    if any(row.bound is None for row in rows):
        lines.append(f"What has no bound was not measured yet on {kind}, or at this budget: --store does.")
    return "\n".join(lines)


def _fashion_quality(run: Path) -> dict[str, float]:
    """Fréchet ratio and accuracy of 1,000 samples, as in records/README.md."""
    train, test = train_and_test()
    judge = Judge(trained_classifier(*train, FASHION_CLASSIFIER), train, test)
    samples = commands.sample(run, run / "pictures", len(judge.reference), [])
    ratio, accuracy = judge(samples.images, samples.labels)
    return {"frechet_ratio": ratio, "accuracy": accuracy}


def _portrait_quality(run: Path) -> dict[str, float]:
    """Share of 200 samples of held-out captions that show all of the caption's colours."""
    portraits = load("bundled:portraits")
    assert portraits.held_out is not None
    prompts = list((portraits.held_out.captions or ())[:200])
    return {"colours": agreement(load_model(run).sample(prompts).numpy(), prompts)["all"]}


SUBJECTS = {
    "fashion_mnist": Subject(FASHION_MNIST, 48_000, _fashion_quality),
    "portraits": Subject("portraits", 80_000, _portrait_quality),
}

if __name__ == "__main__":
    main()
