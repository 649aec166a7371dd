"""What all processes of test_distributed.py run in one start: `drive`, or `torchrun distributed_driver.py FOLDER`.

With names of trainings after the folder it runs only these.
"""

import json
import os
import sys
import traceback
from itertools import islice
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from conftest import TINY, noisekiln
from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.sharded import gather, shard_like
from noisekiln.distributed.wrapping import wrap
from noisekiln.errors import RanksDiffer
from noisekiln.optimizers.muon import MuonOptimizer, orthogonal_together
from noisekiln.plan.encoded_images import encode_images
from noisekiln.runs.run_pictures import RunPictures
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.placement import Placement
from noisekiln.training.trainer import Trainer

DATA = torch.randn(640, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
SMALL = ("train", "portraits", "--backbone", TINY, "--batch-size", "16")
UNTITLED = (*SMALL, "--cond", "none")  # the captions of the portraits take seconds at every start
TRAININGS = [
    "ddp",
    "shard",
    "uneven",
    "uneven-shard",
    "ruined-shard",
    "ruined-ddp",
    "half-shard",
    "resume-shard",
    "resume",
]
TOYS = Path(__file__).parent / "toys"
CODEC = f"{TOYS / 'thirds_codec.py'}:Thirds(costly=True)"
OWN_CODEC = "autoencoder(factor=2,channels=4,width=16,adversarial=0.1)"  # which is trained first, in three steps
STUDENT = ("--objective", f"{TOYS / 'distilling_objective.py'}:Distilling", "--codec", CODEC, "--teacher")
COARSE = TINY.replace("patch=1", "patch=4")
EVALUATION = ("-n", 15, "--steps", 2, "--batch-size", 4)
LARGE = ("train", "portraits", "--backbone", COARSE, "--images", "8000", "--batch-size", "256")


class Short:
    rows_at = None  # images seen when there is no memory for rows


class Loss:
    def __init__(self, value):
        self.value = value


class Net(nn.Module):
    """Two matrices, biases, and noise in the loss."""

    short_at = None  # the call in which memory runs out
    short_behind = None  # the call in whose backward pass it does, between the two matrices
    ruined_at = None  # the call whose loss is NaN
    calls = 0

    def __init__(self):
        super().__init__()
        torch.manual_seed(5)
        self.blocks = nn.ModuleList([nn.Linear(6, 16), nn.Linear(16, 6)]).double()

    def forward(self, x, noise):
        self.calls += 1
        if self.calls == self.short_at:
            run_out()
        hidden = torch.tanh(self.blocks[0](x + noise))
        if self.calls == self.short_behind:
            hidden.register_hook(run_out)
        y = self.blocks[1](hidden)
        return Loss((y - x).square().mean() * (torch.nan if self.calls == self.ruined_at else 1))


def run_out(*_):
    raise RuntimeError("CUDA out of memory. Tried to allocate 3 GiB")


def batches(start, count, generator):
    if Short.rows_at == start:
        Short.rows_at = None
        run_out()
    x = DATA[(start + torch.arange(count)) % len(DATA)]
    return x, torch.randn(x.shape, generator=generator, dtype=x.dtype)


def optimizers(module):
    matrices = [p for p in module.parameters() if p.ndim == 2]
    return [
        MuonOptimizer(matrices),
        torch.optim.AdamW([p for p in module.parameters() if p.ndim < 2], weight_decay=0.0),
    ]


def make(ranks, *, shard=False, batch_size=96, images=4800, micro_batch_size=None, net=None):
    net = net or Net()
    placement = Placement(
        ranks=ranks, micro_batch_size=micro_batch_size, shard_blocks=list(net.blocks) if shard else None
    )
    budget, lr = Budget(images=images), LearningRate(0.01)
    return Trainer(net, batches, optimizers, budget=budget, lr=lr, batch_size=batch_size, placement=placement)


def train(what, folder, ranks):
    """One training run, with its tensors and reports saved in the folder."""
    if what == "short":  # two buckets of gradients, of which one is averaged already when memory runs out
        dist._DEFAULT_FIRST_BUCKET_BYTES = 100
        Net.short_at, Short.rows_at = ((None, None), (10, 30 * 96))[ranks.rank]
        # 9 steps of one micro-batch, two calls in the step in which process 1 fails, 10 steps of two; then the last.
        Net.short_behind = (32, None)[ranks.rank]
    Net.ruined_at = 8 if "ruined" in what and ranks.rank == 1 else None
    micro = 24 if "ruined" in what else None
    trainer = make(ranks, shard="shard" in what, batch_size=97 if "uneven" in what else 96, micro_batch_size=micro)
    if "resume" in what:
        parts = [torch.load(folder / f"half-shard{i}.pt", weights_only=True) for i in range(2)]
        trainer.load_state_dict([part["tensors"] for part in parts], parts[0]["numbers"])
    reports = list(islice(trainer.run(), 25 if "half" in what else None))
    tensors, numbers = trainer.state_dict()
    found = {"tensors": tensors, "numbers": numbers, "losses": [r.loss for r in reports]}
    found["norms"] = [r.grad_norm for r in reports]
    found["micro_batch_size"], found["applied"] = [r.micro_batch_size for r in reports], [r.applied for r in reports]
    torch.save(found, folder / f"{what}{ranks.rank}.pt")


def error_of_unused(ranks):
    """The error of a run whose network has a parameter too many."""
    net = Net()
    net.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
    try:
        list(make(ranks, images=960, net=net).run())
    except ValueError as error:
        return str(error)


def error_of_different_weights(ranks):
    """The error of a save after the weights of process 1 have changed by themselves."""
    trainer = make(ranks, images=960)
    next(trainer.run())
    trainer.state_dict()
    with torch.no_grad():
        if ranks.rank == 1:
            trainer.module.blocks[0].bias[3] += 1e-9
    try:
        trainer.state_dict()
    except RanksDiffer as error:
        return str(error)


class Matrices(nn.Module):
    """Weights of several shapes: more than one of a shape, fewer rows than processes, rows that cannot be halved."""

    SHAPES = ((16, 6), (16, 6), (16, 6), (6, 16), (3, 5), (1, 4), (8, 4, 3, 3))

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(6)
        self.weights = nn.ParameterList(
            torch.randn(shape, dtype=torch.float64, generator=generator) for shape in self.SHAPES
        )


def muon_steps(ranks, count=3):
    """Some steps of Muon, sharded if there are several processes: the weights, and matrices orthogonalised here."""
    module, computed = Matrices(), []

    def counted(stacks, iterations):
        computed.extend(map(len, stacks))
        return orthogonal_together(stacks, iterations)

    wrap(module, ranks, [])
    optimizer = MuonOptimizer(module.parameters(), lr=0.1)
    optimizer._orthogonal = counted
    generator = torch.Generator().manual_seed(7)
    for _ in range(count):
        for shape, weight in zip(Matrices.SHAPES, module.parameters(), strict=True):
            weight.grad = shard_like(torch.randn(shape, dtype=torch.float64, generator=generator), weight)
        optimizer.step()
    return {"weights": [gather(weight.detach()) for weight in module.parameters()], "computed": sum(computed)}


def encoded_images(ranks):
    """Latents of a few images, and how many of them this process has encoded."""
    torch.manual_seed(8)
    codec, counts = Autoencoder(2, 4, 16, image_channels=3), []
    encode = codec.encode
    codec.encode = lambda images: counts.append(len(images)) or encode(images)
    rounds = encode_images(codec, np.arange(7 * 48, dtype=np.uint8).reshape(7, 4, 4, 3), 7, "cpu", ranks)
    while True:
        try:
            next(rounds)
        except StopIteration as end:
            return {"x": end.value, "encoded": sum(counts)}


def main(folder, names, ranks):
    for what in names or TRAININGS:
        train(what, folder, ranks)
        ranks.barrier()
    if names:
        return
    torch.save(muon_steps(ranks), folder / f"muon{ranks.rank}.pt")
    torch.save(encoded_images(ranks), folder / f"latents{ranks.rank}.pt")
    errors = {"unused": error_of_unused(ranks), "different": error_of_different_weights(ranks)}
    (folder / f"errors{ranks.rank}.json").write_text(json.dumps(errors))
    picture = ("-n", 7, "--batch-size", 2, "--steps", 3, "--out", folder / "2")
    two = noisekiln(*LARGE, "--shard", "--out", folder / "two")
    RunPictures.start = RunPictures.finish = lambda self: []  # one run with all its pictures is enough
    printed = {
        "two": two,
        "whole": noisekiln(*SMALL, "--images", 640, "--out", folder / "whole"),
        "codec": noisekiln(*UNTITLED, "--images", 48, "--shard", "--codec", CODEC, "--out", folder / "codec"),
        "student": noisekiln(
            *UNTITLED, "--images", 48, "--shard", *STUDENT, folder / "codec", "--out", folder / "student"
        ),
        "latent": noisekiln(*UNTITLED, "--images", 192, "--codec", OWN_CODEC, "--out", folder / "latent"),
        "sample": noisekiln("sample", folder / "whole", *picture),
        "evaluate": noisekiln("evaluate", folder / "whole", *EVALUATION, "--out", folder / "evaluated"),
    }
    (folder / f"printed{ranks.rank}.json").write_text(json.dumps(printed))
    train("short", folder, ranks)  # which leaves torch otherwise than it was
    ranks.barrier()


def drive(folder, *names):
    """Run all as one of several processes, and end."""
    try:
        main(Path(folder), names, Ranks.join("cpu", timeout=60))
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # at exit, Python sometimes aborts while threads of torch still run


if __name__ == "__main__":
    drive(*sys.argv[1:])
