"""Do two processes train as one does, and how soon does one end when the other is killed?

    python benchmarks/processes.py --record records/processes.json

Over gloo, 100 steps in double precision of the small network of tests/peers_driver.py, batch 96 and 97, with whole
weights (DDP) and shared ones (FSDP2): the largest relative difference of a loss, and of a weight, average or moment, to
one process. Then `noisekiln train` with two processes, of which one is killed: seconds until both are gone.
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


def trained(count: int, what: list[str], folder: Path) -> list[dict[str, Any]]:
    """What the processes tell of each training."""
    script = [*TORCHRUN, str(count), str(TESTS / "peers_driver.py"), str(folder), *what]
    subprocess.run(script, check=True, env=ENVIRONMENT)
    return [
        joined([torch.load(folder / f"{name}{rank}.pt", weights_only=True) for rank in range(count)]) for name in what
    ]


def joined(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """What all processes tell, with shared tensors in one."""
    return parts[0] | {"tensors": merge_shards([part["tensors"] for part in parts], parts[0]["numbers"]["sharded"])}


def apart(one: dict[str, Any], two: dict[str, Any]) -> dict[str, float]:
    """Largest relative differences of losses and of tensors."""
    losses = max(abs(a - b) / abs(a) for a, b in zip(one["losses"], two["losses"], strict=True))
    tensors = [(tensor.double(), two["tensors"][name].double()) for name, tensor in one["tensors"].items()]
    return {"loss": losses, "tensor": max(float((a - b).norm() / a.norm().clamp(min=1e-12)) for a, b in tensors)}


def seconds_to_end() -> float:
    """From `kill -9` of the second process until both are gone."""
    with tempfile.TemporaryDirectory() as folder:
        words = [
            "train",
            "portraits",
            "--minutes",
            "5",
            "--batch-size",
            "16",
            "--backbone",
            SMALL,
            "--out",
            f"{folder}/run",
        ]
        run = subprocess.Popen(
            [*TORCHRUN, "2", "-m", "noisekiln", *words],
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not (Path(folder) / "run" / "model" / "model.json").exists():
            time.sleep(0.1)
        children = Path(f"/proc/{run.pid}/task/{run.pid}/children").read_text().split()
        begun = time.perf_counter()
        os.kill(int(children[-1]), signal.SIGKILL)
        run.wait()
        return time.perf_counter() - begun


def main() -> None:
    """Compare, kill, tell, write the record."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--kills", type=int, default=5)
    ask.add_argument("--record", type=Path)
    given = ask.parse_args()
    figures: dict[str, Any] = {"steps": 100}
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as two:
        names = ["ddp", "shard", "uneven", "uneven-shard"]
        for name, alone, together in zip(
            names, trained(1, names, Path(one)), trained(2, names, Path(two)), strict=True
        ):
            figures[name] = {kind: float(f"{value:.2g}") for kind, value in apart(alone, together).items()}
    figures["seconds until both are gone"] = [round(seconds_to_end(), 1) for _ in range(given.kills)]
    print(json.dumps(figures, indent=2))
    if given.record:
        given.record.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
