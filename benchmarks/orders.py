"""Measured orders of convergence of every deterministic sampler, against closed-form flows.

    python benchmarks/orders.py --record records/orders.json

The order is minus the slope of log error against log steps (32 to 512), on one-dimensional Gaussian and mixture data
whose denoiser and probability flow are known exactly, in float64. "whole" walks a schedule from end to end; "cut" from
time 0.98 to 0.02, where log-SNR is finite and every schedule smooth.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from noisekiln.components.registry import find, names
from noisekiln.components.spec import build
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from oracles import BOTH, Mixture, no_noise, walk

STEPS = (32, 64, 128, 256, 512)
RANGES = {"whole": (1.0, 0.0), "cut": (0.98, 0.02)}
STARTS = torch.tensor([-1.4, -0.6, -0.1, 0.3, 0.8, 1.5], dtype=torch.float64).view(-1, 1, 1, 1)


def errors(data: Mixture, sampler: Sampler, schedule: Schedule, ends: tuple[float, float]) -> list[float]:
    """Root mean square distance to the exact end point, for each number of steps."""
    found = []
    for steps in STEPS:
        levels = [schedule(time) for time in torch.linspace(*ends, steps + 1, dtype=torch.float64)]
        x = levels[0].norm * STARTS
        last = walk(data, sampler, levels, x, no_noise)
        found.append(float((last - data.flow(x, levels[0], levels[-1])).square().mean().sqrt()))
    return found


def deterministic(sampler: Sampler) -> bool:
    """Whether the sampler adds no noise on its way."""
    levels = [find(Schedule, "cosine")()(torch.tensor(time)) for time in (1.0, 0.5, 0.1)]
    try:
        walk(BOTH["gaussian"], sampler, levels, STARTS, no_noise)
    except AssertionError:
        return False
    return True


def main() -> None:
    """Measure all, print a table, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--record", type=Path)
    arguments = parser.parse_args()
    figures = []
    for name in names("samplers"):
        sampler = build(Sampler, name)
        if not deterministic(sampler):
            continue
        for room in names("schedules"):
            for data_name, data in BOTH.items():
                for span, ends in RANGES.items():
                    found = errors(data, sampler, find(Schedule, room)(), ends)
                    order = -float(np.polyfit(np.log(STEPS), np.log(found), 1)[0])
                    row = {"sampler": name, "declared": sampler.order, "schedule": room, "data": data_name}
                    row |= {"range": span, "order": round(order, 2)}
                    row |= {f"error at {STEPS[0]}": found[0], f"error at {STEPS[-1]}": found[-1]}
                    figures.append(row)
                    print(f"{name:9} {room:13} {data_name:9} {span:6} {order:5.2f}  {found[0]:.1e} {found[-1]:.1e}")
    if arguments.record:
        arguments.record.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
