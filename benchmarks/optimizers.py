"""Muon with AdamW against AdamW alone, at equal time on one thread, on the bundled portraits.

Short runs with everything else at its default, in turn: within a round all ways have one seed, and the next round goes
through them the other way round. As machines are shared, time is that which the thread had of a processor: on a quiet
one it is that of the clock. The figure is the loss of the averaged model and of the last weights, on held-out
images under the same noise for all.
`python benchmarks/optimizers.py --record records/optimizers.json` prints and keeps the figures.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch

from fine_tune import held_out_loss
from noisekiln.data import DataSet, load
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run

WAYS: dict[str, dict[str, Any]] = {
    "muon + adamw, 0.002 (default)": {"optimizer": "muon"},
    "adamw, 0.001 (its default)": {"optimizer": "adamw"},
    "adamw, 0.003": {"optimizer": "adamw", "lr": 3e-3},
    "adamw, 0.006": {"optimizer": "adamw", "lr": 6e-3},
}


def trained(way: str, data: DataSet, seconds: float, seed: int) -> dict[str, float]:
    """Losses of one run, trained for some seconds of processor time."""
    assert data.held_out is not None
    with tempfile.TemporaryDirectory() as folder:
        run = Run(Settings(minutes=seconds / 60, seed=seed, device="cpu", **WAYS[way]), data, Path(folder))
        with patch("noisekiln.training.trainer.time", SimpleNamespace(perf_counter=time.thread_time)):
            for _ in run.steps():
                pass
    averaged = run.copies.averaged().diffusion
    return {
        "held-out loss": held_out_loss(averaged, data.held_out, draws=1),
        "held-out loss of the last weights": held_out_loss(run.learner.eval().diffusion, data.held_out, draws=1),
        "images": run.trainer.images_seen,
        "seconds": round(run.trainer.seconds, 1),
    }


def main() -> None:
    """Train in turn, compare."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of training, each run")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="one round each")
    parser.add_argument("--only", default="", help="ways whose name holds this")
    parser.add_argument(
        "--record", type=Path, help="JSON file for the figures; what it has of other rounds and ways stays"
    )
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    data = load("bundled:portraits")
    for seed in arguments.seeds:
        runs = {}
        for way in [way for way in WAYS if arguments.only in way][:: 1 if seed % 2 == 0 else -1]:
            runs[way] = trained(way, data, arguments.seconds, seed)
            print(seed, way, runs[way], flush=True)
        figures = summed_up(arguments.record, arguments.seconds, seed, runs)
    print(json.dumps(figures, indent=2))


def summed_up(record: Path | None, seconds: float, seed: int, runs: dict[str, dict[str, float]]) -> dict[str, Any]:
    """All rounds, and medians over them."""
    kept = json.loads(record.read_text(encoding="utf-8")) if record and record.exists() else {}
    rounds = kept.get("seeds", {})
    done = rounds.get(str(seed), {}) | runs
    rounds |= {str(seed): {way: done[way] for way in WAYS if way in done}}
    middle = {
        way: {name: median(one[way][name] for one in rounds.values() if way in one) for name in runs[next(iter(runs))]}
        for way in WAYS
        if any(way in one for one in rounds.values())
    }
    figures = {"seconds each": seconds, "medians": middle, "seeds": dict(sorted(rounds.items()))}
    if record:
        record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures


if __name__ == "__main__":
    main()
