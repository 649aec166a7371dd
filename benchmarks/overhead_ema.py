"""What the averages cost, beside bare steps of training, on one thread: the default network of size xl, 32M parameters.

Times the trainer's own steps and, in the same process and in turn with them, an update of both tracks and a snapshot.
How often an update is due is a matter of the images seen alone: at each of the first steps, ever more rarely later. So
the share of the time is told for one update a step, and on average over runs of several numbers of steps; the fastest
rounds count, as machines are shared.
`python benchmarks/overhead_ema.py --record records/overhead_ema.json` prints and keeps the figures.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from noisekiln.data import load
from noisekiln.recipes.assemble import assemble
from noisekiln.recipes.plan import resolve
from noisekiln.recipes.settings import Settings
from noisekiln.training.ema import FINENESS, Ema
from noisekiln.training.snapshots import write

Timed = Callable[[], object]


def seconds(work: Timed) -> float:
    """Of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def updates(steps: int) -> int:
    """How many updates are due within so many steps."""
    stands, count = 0, 0
    for step in range(1, steps + 1):
        if (step - stands) * FINENESS >= step:
            stands, count = step, count + 1
    return count


def main() -> None:
    """Time steps, updates and snapshots in turn."""
    ask = argparse.ArgumentParser(description=main.__doc__)
    ask.add_argument("--batch", type=int, default=64)
    ask.add_argument("--size", type=int, default=32, help="side of the images")
    ask.add_argument("--model", default="xl", help="size of the network")
    ask.add_argument("--rounds", type=int, default=5)
    ask.add_argument("--record", type=Path, help="JSON file for the figures")
    given = ask.parse_args()

    torch.set_num_threads(1)
    noise = np.random.default_rng(0).integers(0, 255, (256, given.size, given.size, 3), dtype=np.uint8)
    settings = Settings(images=10**9, batch=given.batch, model=given.model, device="cpu")
    data = load(noise)
    trainer = assemble(resolve(settings, data), data)
    steps = trainer.run()
    seen = [0]

    def update(ema: Ema) -> None:
        seen[0] = 2 * seen[0] + 1  # so that each is due
        ema.update(trainer.module, seen[0])

    apart = Ema(trainer.module, trainer.ema.lengths)  # the trainer's own is not to be disturbed
    trainer.ema = Ema(torch.nn.Identity(), ())  # and is taken away, so that the steps are bare
    with tempfile.TemporaryDirectory() as folder:
        works: dict[str, Timed] = {
            "step": lambda: next(steps),
            "update": lambda: update(apart),
            "snapshot": lambda: write(Path(folder), apart),
        }
        for work in works.values():  # once, to warm up
            work()
        timed = [{name: seconds(work) for name, work in works.items()} for _ in range(given.rounds)]
    best = {name: min(row[name] for row in timed) for name in works}
    parameters = sum(p.numel() for p in trainer.module.parameters())
    told = {
        "parameters": parameters,
        "batch": given.batch,
        "size": given.size,
        "seconds, fastest": {name: float(f"{value:.3g}") for name, value in best.items()},
        "seconds, median": {name: float(f"{median(row[name] for row in timed):.3g}") for name in works},
        "update / step": float(f"{best['update'] / best['step']:.3g}"),
        "of a run of N steps": {
            count: {
                "updates": updates(count),
                "updates / steps in time": float(f"{updates(count) * best['update'] / count / best['step']:.3g}"),
                "with 16 snapshots": float(
                    f"{(updates(count) * best['update'] + 16 * best['snapshot']) / count / best['step']:.3g}"
                ),
            }
            for count in (1_000, 10_000, 100_000)
        },
    }
    print(json.dumps(told, indent=2))
    if given.record:
        given.record.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
