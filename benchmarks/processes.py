"""Do two processes train as one does, and how soon does one end when the other is killed?

    python benchmarks/processes.py --record records/processes.json

Over gloo, 50 steps in double precision of the small network of tests/distributed_driver.py, batch 96 and 97, with whole
weights (DDP) and sharded ones (FSDP2): the largest relative difference of a loss, and of a weight, average or moment,
to one process. Then `noisekiln train` with two processes, of which one is killed: seconds until both are gone.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from noisekiln.distributed.sharded import merge_shards

TESTS = Path(__file__).parents[1] / "tests"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
SMALL = "unet(widths=(32,),blocks=(1,),patch=1,condition=32)"


def train(count: int, names: list[str], folder: Path) -> list[dict[str, Any]]:
    """Losses and tensors of each training, for a number of processes."""
    script = [*TORCHRUN, str(count), str(TESTS / "distributed_driver.py"), str(folder), *names]
    subprocess.run(script, check=True, env=ENVIRONMENT)
    return [
        merged([torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(count)]) for name in names
    ]


def merged(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """The results of all processes, with sharded tensors in full."""
    return parts[0] | {"tensors": merge_shards([part["tensors"] for part in parts], parts[0]["numbers"]["sharded"])}


def differences(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """Largest relative differences of losses and of tensors."""
    losses = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], two["losses"], strict=True))
    tensors = [(tensor.double(), two["tensors"][name].double()) for name, tensor in one["tensors"].items()]
    return {"loss": losses, "tensor": max(float((a - b).norm() / a.norm().clamp(min=1e-12)) for a, b in tensors)}


def seconds_to_end() -> float:
    """From `kill -9` of the second process until both are gone."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["train", "portraits", "--minutes", "5", "--batch-size", "16", "--backbone", SMALL]
        words += ["--out", f"{folder}/run"]
        run = subprocess.Popen(
            [*TORCHRUN, "2", "-m", "noisekiln", *words],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (Path(folder) / "run" / "model" / "model.json").exists():
            time.sleep(0.1)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        start_time = time.perf_counter()
        os.kill(int(children[-1]), signal.SIGKILL)
        run.wait()
        return time.perf_counter() - start_time


def main() -> None:
    """Compare, kill, print, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        names = ["ddp", "shard", "uneven", "uneven-shard"]
        for name, alone, together in zip(names, train(1, names, Path(one)), train(2, names, Path(two)), strict=True):
            figures.setdefault("steps", len(alone["losses"]))
            figures[name] = {kind: float(f"{value:.2g}") for kind, value in differences(alone, together).items()}
    figures["seconds until both are gone"] = [round(seconds_to_end(), 1) for _ in range(options.kills)]
    print(json.dumps(figures, indent=2))
    if options.record:
        options.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
