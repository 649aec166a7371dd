"""What training pays for besides its steps, as ratios within one run, on one thread.

`--what step`: the trainer's own share of a step, beside a bare one: forward, backward, clip, optimizer, of the same
network on rows that were made before. Both take the same steps, in turn, and are held to the same weights at the end.
`--what ema`: updates of two averages, and snapshots of them, in turn with steps that have none. How often an update is
due is a matter of the images seen alone: at each of the first steps, ever more rarely later.
`--what checkpoint`: how long `Run.save` holds up training, and until all is written; and a save that comes at once
after another.
`--what held_out`: where the time of a whole run with everything at its default goes.

The first three are of a network of 37M parameters, with a batch so small that a step is short and overheads look large,
and of the default one with its usual batch, both on 32x32 images. Seconds are told by the clock, and as those that the
training thread had of a processor. On a shared machine only the latter say how large a share of a step something is:
what is short is done in one go, and a step has to wait for others. What waits for a disk is taken by the clock, and
put beside a step in processor time, which is the shortest it could be.
`python benchmarks/overheads.py --what step --record records/overheads.json` prints the figures and keeps them under
its name, beside what is there.
"""

import argparse
import copy
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from math import inf
from pathlib import Path
from statistics import median
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from noisekiln.data import DataSet, load
from noisekiln.ema.power import FINENESS, Ema
from noisekiln.ema.snapshots import small
from noisekiln.monitor.reports import Reports
from noisekiln.plan.build import assemble, make_optimizers
from noisekiln.plan.defaults import resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.runs import run as run_module
from noisekiln.runs.run import Run
from noisekiln.training.batches import Batch, make_batch
from noisekiln.training.trainer import Report

BUDGET = 10_000  # steps: a rate that is never begun with would leave weights so small that they are slow
NETWORKS: dict[str, dict[str, Any]] = {
    "37M": {"backbone": "unet(widths=(224, 384), blocks=(5, 8), patch=2, condition=512)", "batch": 8},
    "default": {"model": "s", "batch": 64},
}
ROUNDS = {"37M": {"step": 8, "ema": 8, "checkpoint": 5}, "default": {"step": 120, "ema": 40, "checkpoint": 10}}


def seconds(work: Callable[[], object]) -> float:
    """Of one call."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


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
    return Settings(images=BUDGET * chosen["batch"], device="cpu", **chosen)


class Bare:
    """Steps with nothing around them.

    Args:
        trained: What is trained.
        optimizer: Name of its optimizer.
    """

    def __init__(self, trained: Learner, optimizer: str) -> None:
        self.trained, self.parameters = trained.train(), list(trained.parameters())
        self.optimizers = make_optimizers(optimizer, trained)

    def __call__(self, rows: Batch, rate: float) -> None:
        """Take one."""
        self.trained(*rows).value.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def step(network: str, rounds: int) -> dict[str, Any]:
    """The steps of a run with all that it does at each, and bare ones, in turn."""
    with tempfile.TemporaryDirectory() as folder, no_checkpoints():
        run = Run(settings_of(network), noise(), Path(folder))
        trainer, chosen = run.trainer, run.settings
        assert chosen.batch_size is not None
        bare = Bare(copy.deepcopy(run.trained), chosen.optimizer)
        steps = cast(Generator[Report], run.steps())
        timed = []
        for number in range(rounds + 3):  # the first ones warm up
            seen = trainer.images_seen
            rows = make_batch(trainer.rows.batches, chosen.seed, seen, chosen.batch_size, range(chosen.batch_size))
            rate = trainer.lr(trainer.share)
            works: dict[str, Callable[[], object]] = {"run": partial(next, steps), "bare": partial(bare, rows, rate)}
            names = sorted(works, reverse=number % 2 == 0)  # neither is always the first
            timed.append({name: timings(works[name]) for name in names})
        same = all(torch.equal(a, b) for a, b in zip(run.trained.parameters(), bare.parameters, strict=True))
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
    trainer = assemble(chosen, data)
    steps, seen = cast(Generator[Report], trainer.run()), [0]
    averages = Ema(trainer.module, trainer.ema.lengths)
    trainer.ema = Ema(nn.Identity(), ())  # is taken away, so that the steps are bare

    def update() -> None:
        seen[0] = 2 * seen[0] + 1  # so that each is due
        averages.update(trainer.module, seen[0])

    works: dict[str, Callable[[], object]] = {
        "step": lambda: next(steps),
        "update": update,
        "snapshot": lambda: small(averages),  # it is written in the background
    }
    timed = [{name: timings(work) for name, work in works.items()} for _ in range(rounds + 2)][2:]
    steps.close()
    wall, busy = (medians(rows) for rows in apart(timed))
    told = {
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
        told[f"of a run of {count} steps"] = {
            "updates": updates(count),
            "updates / steps": short(updating / count / busy["step"]),
            f"with {chosen.ema_snapshots} snapshots": short((updating + keeping) / count / busy["step"]),
        }
    return told


def updates(steps: int) -> int:
    """How many updates are due within so many steps."""
    stands, count = 0, 0
    for number in range(1, steps + 1):
        if (number - stands) * FINENESS >= number:
            stands, count = number, count + 1
    return count


def checkpoint(network: str, rounds: int) -> dict[str, Any]:
    """Steps and saves in turn: one that finds nothing being written, and one that comes at once after it."""
    timed = []
    with tempfile.TemporaryDirectory() as folder, no_checkpoints():
        run = Run(settings_of(network), noise(), Path(folder))
        steps = cast(Generator[Report], run.steps())
        next(steps)
        first = seconds(run.save)  # makes the module that averages are copied into
        run.background.wait()
        for _ in range(rounds):
            row = {"step": timings(partial(next, steps))}
            row["save"] = timings(run.save)
            row["save while one is being written"] = timings(run.save)
            row["until that is written"] = timings(run.background.wait)
            timed.append(row)
        tensors: dict[str, Tensor] = run.trainer.state()[0]
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
        def timed(*given: Any) -> Any:
            begun = time.perf_counter()
            done = work(*given)
            spent[name] += time.perf_counter() - begun
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
        "points of an evaluation": run.held_out.points,
        "seconds of the run": short(whole),
        **{name: {"count": calls[name], "share of the run": short(spent[name] / whole)} for name in places},
    }


def about(run: Run, rounds: int) -> dict[str, Any]:
    """What was measured."""
    return {"parameters": run.parameters, "batch": run.settings.batch_size, "rounds": rounds}


@contextmanager
def no_checkpoints() -> Iterator[None]:
    """Meanwhile a run saves only when it is asked to."""
    before, run_module.CHECKPOINT_EVERY = run_module.CHECKPOINT_EVERY, inf
    yield
    run_module.CHECKPOINT_EVERY = before


PARTS: dict[str, Callable[[str, int], dict[str, Any]]] = {"step": step, "ema": ema, "checkpoint": checkpoint}


def main() -> None:
    """Measure what is asked for, print, keep."""
    ask = argparse.ArgumentParser(description=main.__doc__)
    ask.add_argument("--what", choices=(*PARTS, "held_out"), required=True)
    ask.add_argument("--network", choices=tuple(NETWORKS), help="only this one")
    ask.add_argument("--rounds", type=int, help="instead of the usual number")
    ask.add_argument("--minutes", type=float, default=4.0, help="of the run for held_out")
    ask.add_argument("--record", type=Path, help="JSON file for the figures")
    given = ask.parse_args()

    torch.set_num_threads(1)
    told: dict[str, Any]
    if given.what == "held_out":
        told = held_out(given.minutes)
    else:
        told = {}
        for network in [given.network] if given.network else NETWORKS:
            told[network] = PARTS[given.what](network, given.rounds or ROUNDS[network][given.what])
            print(network, json.dumps(told[network], indent=2), flush=True)
    print(json.dumps(told, indent=2))
    if given.record:
        kept = json.loads(given.record.read_text(encoding="utf-8")) if given.record.exists() else {}
        if given.what != "held_out":
            told = kept.get(given.what, {}) | told
        given.record.write_text(json.dumps(kept | {given.what: told}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
