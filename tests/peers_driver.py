"""What every process of test_peers.py runs: `torchrun peers_driver.py WHAT FOLDER`."""

import os
import sys
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from noisekiln.distributed.ranks import Ranks
from noisekiln.optimizers.muon import Muon
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.trainer import Trainer

DATA = torch.randn(640, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Short:
    rows_at = None  # images seen when there is no memory for rows


class Loss:
    def __init__(self, value):
        self.value = value


class Net(nn.Module):
    """Two matrices, biases, and noise in what is minimised."""

    short_at = None  # the call in which memory runs out
    short_behind = None  # the call in whose backward pass it does, between the two matrices
    ruined_at = None  # the call whose loss is no number
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
    return [Muon(matrices), torch.optim.AdamW([p for p in module.parameters() if p.ndim < 2], weight_decay=0.0)]


def make(ranks, *, shard=False, batch=96, images=9600, **settings):
    net = Net()
    return Trainer(
        net, batches, optimizers, budget=Budget(images=images), lr=LearningRate(0.01), batch=batch, ranks=ranks,
        blocks=list(net.blocks) if shard else None, **settings,
    )  # fmt: skip


def main(what, folder, ranks):
    if what == "short":  # two buckets of gradients, of which one is averaged already when memory runs out
        dist._DEFAULT_FIRST_BUCKET_BYTES = 100
        Net.short_at, Short.rows_at = ((None, None), (10, 30 * 96))[ranks.rank]
        # 9 steps of a piece, two of the step that process 1 fails in, 10 of two pieces; then the last one of a step.
        Net.short_behind = (32, None)[ranks.rank]
    Net.ruined_at = 16 if "ruined" in what and ranks.rank == 1 else None
    micro = 12 if "ruined" in what else None
    trainer = make(ranks, shard="shard" in what, batch=97 if "uneven" in what else 96, micro=micro)
    if "resume" in what:
        parts = [torch.load(folder / f"half-shard{i}.pt", weights_only=True) for i in range(2)]
        trainer.load_state([part["tensors"] for part in parts], parts[0]["numbers"])
    if "half" in what:
        reports = list(islice(trainer.run(), 50))
    elif what == "idle":
        torch.save({"error": error_of(ranks)}, folder / f"{what}{ranks.rank}.pt")
        return
    else:
        reports = list(trainer.run())
    tensors, numbers = trainer.state()
    told = {"tensors": tensors, "numbers": numbers, "losses": [r.loss for r in reports]}
    told["norms"], told["micro"] = [r.grad_norm for r in reports], [r.micro for r in reports]
    told["taken"] = [r.taken for r in reports]
    torch.save(told, folder / f"{what}{ranks.rank}.pt")
    ranks.barrier()


def error_of(ranks):
    """What a run says whose network has a parameter too many."""
    net = Net()
    net.idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
    trainer = Trainer(net, batches, optimizers, budget=Budget(images=960), lr=LearningRate(0.01), batch=96, ranks=ranks)
    try:
        list(trainer.run())
    except ValueError as error:
        return str(error)


if __name__ == "__main__":
    joined = Ranks.join("cpu", wait=60)
    for name in sys.argv[2:]:
        main(name, Path(sys.argv[1]), joined)
    os._exit(0)  # Python that is taken apart while threads of torch's still speak aborts now and then
