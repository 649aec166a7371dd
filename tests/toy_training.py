"""A small trainer of a network with a buffer, whose loss is random."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisekiln.optimizers.muon import MuonOptimizer
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.trainer import Trainer

DATA = torch.randn(64, 3, generator=torch.Generator().manual_seed(0))


@dataclass
class Toy:
    value: Tensor


def adamw(module):
    return [torch.optim.AdamW(module.parameters())]


def sgd(module):
    return [torch.optim.SGD(module.parameters(), lr=1.0)]


def muon_and_adamw(module):
    matrices = [parameter for parameter in module.parameters() if parameter.ndim == 2]
    rest = [parameter for parameter in module.parameters() if parameter.ndim < 2]
    return [MuonOptimizer(matrices), torch.optim.AdamW(rest)]


class Net(nn.Sequential):
    def __init__(self, norm=True):
        super().__init__(nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.SiLU(), nn.Linear(8, 3))

    def forward(self, x, noise):
        return Toy((super().forward(x + noise) - x).square().mean())


def batches_of(data, ruin_at=()):
    """The rows of `data` in their order, with noise; batches that start at an image in `ruin_at` hold a NaN."""

    def batches(seen, count, generator):
        rows = (seen + torch.arange(count)) % len(data)
        ruined = data[rows].clone()
        if seen in ruin_at:
            ruined[0] = torch.nan
        return ruined, torch.randn(ruined.shape, generator=generator, dtype=data.dtype)

    return batches


def toy(budget, *, seed=0, ruin_at=(), optimizers=adamw, norm=True, data=DATA, batches=None, **settings):
    """A small network with a buffer and randomness in its loss."""
    torch.manual_seed(99 + seed)
    settings = {"batch_size": 8, "lr": LearningRate(0.01)} | settings
    return Trainer(Net(norm), batches or batches_of(data, ruin_at), optimizers, budget=budget, seed=seed, **settings)


def assert_same_state(one, other):
    (tensors, numbers), (other_tensors, other_numbers) = one.state_dict(), other.state_dict()
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name
    assert numbers["images_seen"] == other_numbers["images_seen"]


def double(budget=Budget(images=3000), **settings):
    torch.set_default_dtype(torch.float64)
    try:
        return toy(budget, norm=False, optimizers=muon_and_adamw, data=DATA.double(), **settings)
    finally:
        torch.set_default_dtype(torch.float32)
