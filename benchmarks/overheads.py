"""What training pays for besides its steps, as ratios within one run.

    python benchmarks/overheads.py --what checkpoint --record records/overhead_checkpoint.json

`checkpoint`: how long `Run.save` holds up the training thread, beside a step, for a network of 35M parameters on 32x32
images, one thread; and steps while the checkpoint is being written. The batch is small, so that a step is short: with
the usual one the ratio is smaller still.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import torch

from noisekiln.data import load
from noisekiln.recipes import run as run_module
from noisekiln.recipes.run import Run
from noisekiln.recipes.settings import Settings

ROUNDS = 5
NETWORK = "unet(widths=(224, 384), blocks=(5, 8), patch=2, condition=512)"


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def checkpoint(batch: int) -> dict[str, Any]:
    """Steps and saves in turn: medians in seconds, and their ratio."""
    run_module.CHECKPOINT_EVERY = inf  # saves come when asked for here
    data = load(np.random.default_rng(0).integers(0, 256, (2 * batch, 32, 32, 3), dtype=np.uint8))
    settings = Settings(images=10**9, batch=batch, backbone=NETWORK, device="cpu")
    step, save, step_beside, written = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(settings, data, Path(folder))
        steps = run.steps()
        next(steps)  # the first of each is slower: memory is asked for
        run.save()
        run.background.wait()
        for _ in range(ROUNDS):
            step.append(seconds_of(lambda: next(steps)))
            begun = time.perf_counter()
            save.append(seconds_of(run.save))
            step_beside.append(seconds_of(lambda: next(steps)))
            run.background.wait()
            written.append(time.perf_counter() - begun)
        tensors, _ = run.trainer.state()
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    medians = {
        "step": statistics.median(step),
        "save_holds_training": statistics.median(save),
        "step_while_writing": statistics.median(step_beside),
        "until_written": statistics.median(written),
    }
    return {
        "parameters": run.parameters,
        "checkpoint_megabytes": round(size / 1e6),
        "batch": batch,
        "seconds": {name: float(f"{value:.3g}") for name, value in medians.items()},
        "save_to_step": round(medians["save_holds_training"] / medians["step"], 3),
        "largest_save_to_smallest_step": round(max(save) / min(step), 3),
    }


WHAT: dict[str, Callable[[int], dict[str, Any]]] = {"checkpoint": checkpoint}


def main() -> None:
    """Measure what is asked for, print, write the record."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--what", choices=list(WHAT), required=True)
    ask.add_argument("--batch", type=int, default=8)
    ask.add_argument("--record", type=Path)
    given = ask.parse_args()
    torch.set_num_threads(1)
    told = WHAT[given.what](given.batch)
    print(json.dumps(told, indent=2))
    if given.record:
        given.record.write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
