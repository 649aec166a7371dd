"""Overheads of training beside its steps, as ratios within one run, on one thread.

`--what step`: the trainer's own share of a step, beside a bare one: forward, backward, clip, optimizer, of the same
network on rows that were made before. Both take the same steps, in turn, and must have the same weights at the end.
`--what ema`: updates of two averages, and snapshots of them, in turn with steps that have none. How often an update is
due depends on the images seen alone: at each of the first steps, ever more rarely later.
`--what checkpoint`: how long `Run.save` holds up training, and until all is written; and a save that comes at once
after another.
`--what held_out`: where the time of a whole run with everything at its default goes.

The first three use a network of 37M parameters, with a batch so small that a step is short and overheads look large,
and the default network with its default batch, both on 32x32 images. Seconds are measured by the clock, and as those
that the training thread had of a processor. On a shared machine only the latter show how large a share of a step
something is: short work is done in one go, and a step has to wait for others. Work that waits for a disk is measured
by the clock, and compared with a step in processor time, which is the shortest that it could take.
`python benchmarks/overheads.py --what step --record records/overheads.json` prints the figures and keeps them under
its name, beside what is there.
"""

import argparse
import copy
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from noisekiln.components.spec import build
from noisekiln.data import DataSet, load
from noisekiln.ema.power import UPDATES, Ema
from noisekiln.ema.snapshots import half_precision_copies
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.reports import Reports
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.plan.build import make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs.run import Run
from noisekiln.training.batches import Batch, make_batch
from noisekiln.training.report import Report

BUDGET = 10_000  # steps: with more, the first learning rates would leave denormal weights, which are slow
NETWORKS: dict[str, dict[str, Any]] = {
    "37M": {"backbone": "unet(widths=(224, 384), blocks=(5, 8), patch=2, condition=512)", "batch_size": 8},
    "default": {"model": "s", "batch_size": 64},
}
NO_CHECKPOINTS = Intervals(checkpoint_seconds=inf, grids_at=())
ROUNDS = {"37M": {"step": 8, "ema": 8, "checkpoint": 5}, "default": {"step": 120, "ema": 40, "checkpoint": 10}}


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    start_time = time.perf_counter()
    work()
    return time.perf_counter() - start_time


def medians(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of columns of seconds."""
    return {name: median(row[name] for row in rows) for name in rows[0]}


def short(value: float) -> float:
    """Three digits."""
    return float(f"{value:.3g}")


def shortened(values: dict[str, float]) -> dict[str, float]:
    """Three digits of each."""
    return {name: short(value) for name, value in values.items()}


def noise() -> DataSet:
    """Images as many and as large as those of a small data set."""
    return load(np.random.default_rng(0).integers(0, 256, (10_000, 32, 32, 3), dtype=np.uint8))


def settings_of(network: str) -> Settings:
    """Those of a long run with it."""
    chosen = NETWORKS[network]
    return Settings(images=BUDGET * chosen["batch_size"], device="cpu", **chosen)


class Bare:
    """Steps with nothing around them.

    Args:
        learner: What is trained.
        optimizer: Spec of its optimizer.
    """

    def __init__(self, learner: Learner, optimizer: str) -> None:
        self.learner, self.parameters = learner.train(), list(learner.parameters())
        self.optimizers = build(OptimizerFactory, optimizer)(learner, learner.diffusion.denoiser.backbone)

    def __call__(self, rows: Batch, rate: float) -> None:
        """Take one step."""
        self.learner(*rows).value.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def step(network: str, rounds: int) -> dict[str, Any]:
    """The steps of a run with all that it does at each, and bare ones, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings_of(network), noise(), Path(folder), intervals=NO_CHECKPOINTS)
        trainer, chosen = run.trainer, run.settings
        assert chosen.batch_size is not None
        bare = Bare(copy.deepcopy(run.learner), chosen.optimizer)
        steps = run.steps()
        timed = []
        for number in range(rounds + 3):  # the first ones warm up
            seen = trainer.images_seen
            rows = make_batch(trainer.batches, chosen.seed, seen, chosen.batch_size, range(chosen.batch_size))
            rate = trainer.lr(trainer.budget.share(0, seen + chosen.batch_size / 2))
            works: dict[str, Callable[[], object]] = {"run": partial(next, steps), "bare": partial(bare, rows, rate)}
            names = sorted(works, reverse=number % 2 == 0)  # neither is always the first
            timed.append({name: timings(works[name]) for name in names})
        same = all(torch.equal(a, b) for a, b in zip(run.learner.parameters(), bare.parameters, strict=True))
        assert same, "the two did not take the same steps"
        steps.close()
    wall, busy = apart(timed[3:])
    return about(run, rounds) | {
        "seconds, median": shortened(medians(wall)),
        "seconds of a processor, median": shortened(medians(busy)),
        "overhead": short(over(medians(wall))),
        "overhead in processor time": short(over(medians(busy))),
        "overhead in processor time, all steps together": short(over(sums(busy))),
    }


def timings(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds by the clock, and those that this thread had of a processor."""
    wall, busy = time.perf_counter(), time.thread_time()
    work()
    return time.perf_counter() - wall, time.thread_time() - busy


def apart(timed: list[dict[str, tuple[float, float]]]) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Seconds by the clock, and those of a processor."""
    wall, busy = ([{name: both[kind] for name, both in row.items()} for row in timed] for kind in (0, 1))
    return wall, busy


def over(times: dict[str, float]) -> float:
    """By how much the run's steps are longer than bare ones, as a share of these."""
    return times["run"] / times["bare"] - 1


def sums(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of columns."""
    return {name: sum(row[name] for row in rows) for name in rows[0]}


def ema(network: str, rounds: int) -> dict[str, Any]:
    """Steps without averages, updates and snapshots in turn."""
    data = noise()
    chosen = resolve(settings_of(network), data)
    trainer = make_trainer(chosen, data)
    steps, seen = cast(Generator[Report], trainer.run()), [0]
    averages = Ema(trainer.module, trainer.ema.lengths)
    trainer.ema = Ema(nn.Identity(), ())  # removed, so that only the steps are timed

    def update() -> None:
        seen[0] = 2 * seen[0] + 1  # so that each is due
        averages.update(trainer.module, seen[0])

    works: dict[str, Callable[[], object]] = {
        "step": lambda: next(steps),
        "update": update,
        "snapshot": lambda: half_precision_copies(averages),  # it is written in the background
    }
    timed = [{name: timings(work) for name, work in works.items()} for _ in range(rounds + 2)][2:]
    steps.close()
    wall, busy = (medians(rows) for rows in apart(timed))
    figures = {
        "parameters": sum(p.numel() for p in trainer.module.parameters()),
        "batch": chosen.batch_size,
        "rounds": rounds,
        "seconds, median": shortened(wall),
        "seconds of a processor, median": shortened(busy),
        "update / step": short(wall["update"] / wall["step"]),
        "update / step in processor time": short(busy["update"] / busy["step"]),
    }
    for count in (1_000, 10_000, 100_000):
        updating, keeping = updates(count) * busy["update"], chosen.ema_snapshots * wall["snapshot"]
        figures[f"of a run of {count} steps"] = {
            "updates": updates(count),
            "updates / steps": short(updating / count / busy["step"]),
            f"with {chosen.ema_snapshots} snapshots": short((updating + keeping) / count / busy["step"]),
        }
    return figures


def updates(steps: int) -> int:
    """Number of updates that are due within a number of steps."""
    stands, count = 0, 0
    for number in range(1, steps + 1):
        if (number - stands) * UPDATES >= number:
            stands, count = number, count + 1
    return count


def checkpoint(network: str, rounds: int) -> dict[str, Any]:
    """Steps and saves in turn: one that finds nothing being written, and one that comes at once after it."""
    timed = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings_of(network), noise(), Path(folder), intervals=NO_CHECKPOINTS)
        steps = run.steps()
        next(steps)
        first = seconds(run.save)  # makes the module that averages are copied into
        run.background.wait()
        for _ in range(rounds):
            row = {"step": timings(partial(next, steps))}
            row["save"] = timings(run.save)
            row["save while one is being written"] = timings(run.save)
            row["until that is written"] = timings(run.background.wait)
            timed.append(row)
        tensors: dict[str, Tensor] = run.trainer.state_dict()[0]
        steps.close()
    wall, busy = (medians(rows) for rows in apart(timed))
    return about(run, rounds) | {
        "checkpoint, MB": round(sum(tensor.numel() * tensor.element_size() for tensor in tensors.values()) / 1e6),
        "seconds, median": shortened(wall),
        "seconds of a processor, median": shortened(busy),
        "seconds, first save": short(first),
        "save / step": short(wall["save"] / wall["step"]),
        "save / step in processor time": short(busy["save"] / busy["step"]),
        "save by the clock / step in processor time": short(wall["save"] / busy["step"]),
        "largest save by the clock / step in processor time": short(
            max(row["save"][0] for row in timed) / busy["step"]
        ),
        "save while one is being written / step": short(wall["save while one is being written"] / wall["step"]),
    }


def held_out(minutes: float) -> dict[str, Any]:
    """Where the time of a run on the portraits goes."""
    spent: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    places = {"evaluations": (Reports, "_evaluate"), "grids": (Run, "draw_grid"), "saves": (Run, "save")}

    def counted(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any) -> Any:
            start_time = time.perf_counter()
            done = work(*args)
            spent[name] += time.perf_counter() - start_time
            calls[name] += 1
            return done

        return timed

    with tempfile.TemporaryDirectory() as folder:
        run = Run(Settings(minutes=minutes, device="cpu"), load("bundled:portraits"), Path(folder))
        before = {name: getattr(*place) for name, place in places.items()}
        for name, place in places.items():
            setattr(*place, counted(name, before[name]))
        whole = seconds(lambda: [None for _ in run.steps()])
        for name, place in places.items():
            setattr(*place, before[name])
    return {
        "parameters": run.parameters,
        "batch": run.settings.batch_size,
        "minutes": minutes,
        "images seen": run.trainer.images_seen,
        "noisy images of an evaluation": run.held_out.noisy_images,
        "seconds of the run": short(whole),
        **{name: {"count": calls[name], "share of the run": short(spent[name] / whole)} for name in places},
    }


def about(run: Run, rounds: int) -> dict[str, Any]:
    """What was measured."""
    return {"parameters": run.parameters, "batch": run.settings.batch_size, "rounds": rounds}


PARTS: dict[str, Callable[[str, int], dict[str, Any]]] = {"step": step, "ema": ema, "checkpoint": checkpoint}


def main() -> None:
    """Measure, print, write the record."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--what", choices=(*PARTS, "held_out"), required=True)
    parser.add_argument("--network", choices=tuple(NETWORKS), help="only this one")
    parser.add_argument("--rounds", type=int, help="instead of the default number")
    parser.add_argument("--minutes", type=float, default=4.0, help="of the run for held_out")
    parser.add_argument("--record", type=Path, help="JSON file for the figures")
    options = parser.parse_args()

    torch.set_num_threads(1)
    figures: dict[str, Any]
    if options.what == "held_out":
        figures = held_out(options.minutes)
    else:
        figures = {}
        for network in [options.network] if options.network else NETWORKS:
            figures[network] = PARTS[options.what](network, options.rounds or ROUNDS[network][options.what])
            print(network, json.dumps(figures[network], indent=2), flush=True)
    print(json.dumps(figures, indent=2))
    if options.record:
        kept = json.loads(options.record.read_text(encoding="utf-8")) if options.record.exists() else {}
        if options.what != "held_out":
            figures = kept.get(options.what, {}) | figures
        options.record.write_text(json.dumps(kept | {options.what: figures}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
