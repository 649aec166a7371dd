"""Communication of processes that train together: computed, not measured.

    python benchmarks/communication.py --record records/communication.json

The sizes of `unet` are built for RGB images of 32x32 and 64x64 pixels in 10 classes, their parameters counted, and the
operations of training on an image counted by `machine/flops.py`. From these follow, for n processes:

* DDP, a ring all-reduce of float32 gradients: each process sends 2 (n-1)/n 4 P bytes a step.
* FSDP2, gathering weights forward and backward and scattering sums of gradients, all in float32: 3 (n-1)/n 4 P bytes,
  if a step is one micro-batch; weights are gathered again for every further one.
* Muon with FSDP2 also gathers the gradients ahead of its matrices, M of the P numbers: (n-1)/n 4 M bytes more.

Time is bytes by the speed of the slowest link, without latency and with nothing done meanwhile; computing is operations
by an assumed speed of a device. How much of it overlaps is not measured here.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from noisekiln.backbones.unet import Unet
from noisekiln.data import load
from noisekiln.monitor.workload import flops_per_image
from noisekiln.optimizers.muon import MuonOptimizer
from noisekiln.plan.build import make_trainer
from noisekiln.plan.defaults import resolve
from noisekiln.plan.learner import Learner
from noisekiln.plan.settings import Settings
from noisekiln.training.trainer import Trainer

LINKS = {"10 Gb/s": 1.25e9, "100 Gb/s": 12.5e9, "450 GB/s": 450e9}  # bytes a second, one way
PROCESSES = (2, 8, 64)
SIDES = (32, 64)  # pixels
CLASSES = 10


def of_size(name: str, side: int) -> Trainer:
    """The trainer that `noisekiln train --model NAME` would use, on a few blank images."""
    images = np.zeros((2 * CLASSES, side, side, 3), np.uint8)
    images[:, 0, 0] = np.arange(len(images))[:, None]  # all alike would have no variance
    data = load(images)
    settings = Settings(model=name, images=1, device="cpu", batch_size=2, curves="none")
    return make_trainer(resolve(settings, data), data)


def counted(name: str, side: int) -> dict[str, Any]:
    """Parameters and operations of a size, and bytes of a checkpoint and of the saved model."""
    trainer = of_size(name, side)
    weights = [weight for weight in trainer.module.parameters() if weight.requires_grad]
    groups = [group for made in trainer.optimizers if isinstance(made, MuonOptimizer) for group in made.param_groups]
    matrices = [weight for group in groups for weight in group["params"]]
    parameters, muon = sum(w.numel() for w in weights), sum(w.numel() for w in matrices)
    assert isinstance(trainer.module, Learner)
    flops = flops_per_image(trainer.module, trainer.batches)
    assert flops is not None
    next(trainer.run())  # optimizers have their moments after a step
    checkpoint = sum(tensor.nbytes for tensor in trainer.state_dict()[0].values())
    return {
        "size": name,
        "side": side,
        "parameters": parameters,
        "of_muon": muon,
        "flops_per_image": flops,
        "checkpoint_bytes": checkpoint,
        "model_bytes": 4 * parameters,
    }


def sent(found: dict[str, Any], processes: int) -> dict[str, float]:
    """Bytes that each process sends in a step."""
    part = 4 * (processes - 1) / processes
    sharded = part * (3 * found["parameters"] + 2 * found["of_muon"] / processes)  # of Muon, rows to owners and back
    return {"ddp": 2 * part * found["parameters"], "fsdp2_with_muon": sharded}


def main() -> None:
    """Count, compute, print tables, write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--speed", type=float, default=50e12, help="Operations a second of a device: an assumption.")
    parser.add_argument("--images", type=int, default=32, help="Of a process in a step.")
    parser.add_argument("--record", type=Path)
    options = parser.parse_args()
    sizes = []
    print(f"{options.images} images a process and step; computing at an assumed {options.speed / 1e12:g} TFLOP/s\n")
    for side in SIDES:
        for name in Unet.sizes:
            found = counted(name, side)
            found["compute_ms"] = 1e3 * options.images * found["flops_per_image"] / options.speed
            share = found["of_muon"] / found["parameters"]
            print(
                f"{name:3}{side:4}px {found['parameters']:12,} parameters ({share:.0%} Muon's) "
                f"{found['flops_per_image'] / 1e9:8.3f} GFLOP an image {found['compute_ms']:8.2f} ms a step "
                f"{found['checkpoint_bytes'] / 1e6:8.1f} MB a checkpoint"
            )
            found["steps"] = []
            for processes in PROCESSES:
                for kind, size in sent(found, processes).items():
                    times = {link: 1e3 * size / speed for link, speed in LINKS.items()}
                    found["steps"].append({"processes": processes, "kind": kind, "bytes": size, "ms": times})
                    shown = "  ".join(f"{link} {time:9.3f} ms" for link, time in times.items())
                    print(f"      {processes:3} {kind:16}{size / 1e6:9.1f} MB  {shown}")
            sizes.append(found)
    if options.record:
        record = {"speed": options.speed, "images": options.images, "links": LINKS, "sizes": sizes}
        options.record.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
