"""Steps in micro-batches, and steps in which memory runs out."""

import os
import subprocess
import sys
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from noisekiln.distributed.ddp import check_all_have_gradients
from noisekiln.distributed.shares import split_fixed_size
from noisekiln.training.batches import Prefetcher, make_batch
from noisekiln.training.budget import Budget
from noisekiln.training.micro_batch import PER_ACTIVATION, PER_WEIGHT
from noisekiln.training.placement import Placement
from toy_training import DATA, assert_same_state, batches_of, double, toy


@pytest.mark.parametrize("micro", [1, 7, 75, 149])
def test_a_step_in_micro_batches_is_the_same_step(micro):
    budget = Budget(images=1500)
    whole, pieces = (
        double(budget, batch_size=150, placement=Placement(micro_batch_size=size)) for size in (None, micro)
    )
    losses = [[report.loss for report in trainer.run()] for trainer in (whole, pieces)]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    for name, weight in whole.module.state_dict().items():
        torch.testing.assert_close(pieces.module.state_dict()[name], weight, rtol=1e-10, atol=1e-12)
    assert len(pieces.losses) == -(-150 // micro)


@pytest.mark.parametrize("micro", [1, 7, 75, 100, 149])
def test_micro_batches_have_one_size_except_the_last(micro):
    """A compiled network then has two input shapes at most."""
    trainer, sizes = double(Budget(images=150), batch_size=150, placement=Placement(micro_batch_size=micro)), []
    trainer.module.register_forward_pre_hook(lambda module, rows: sizes.append(len(rows[0])))
    list(trainer.run())
    assert sum(sizes) == 150
    assert max(sizes) <= micro
    assert len(sizes) == -(-150 // micro)
    assert len(set(sizes[:-1])) == 1
    assert sizes[-1] <= sizes[0]


def test_rows_are_split_into_the_requested_number_of_parts():
    """Two ranks with 5 and 4 rows and micro-batches of 2 both use three."""
    for count in range(1, 40):
        for parts in range(1, count + 1):
            pieces = split_fixed_size(count, parts)
            assert len(pieces) == parts
            assert [row for piece in pieces for row in piece] == list(range(count))
            assert min(map(len, pieces)) >= 1
    assert list(map(len, split_fixed_size(256, 3))) == [86, 86, 84]


def test_rows_do_not_depend_on_the_process_that_makes_them():
    def batches(start, count, generator):
        return torch.arange(start, start + count), None, torch.rand(count, 2, generator=generator)

    whole = make_batch(batches, 3, 1000, 150, range(150))
    assert torch.equal(whole[0], torch.arange(1000, 1150))
    for share in (range(10), range(60, 70), range(64, 128), range(5, 149), range(149, 150)):
        some = make_batch(batches, 3, 1000, 150, share)
        assert torch.equal(some[0], whole[0][share.start : share.stop])
        assert torch.equal(some[2], whole[2][share.start : share.stop])
        assert some[1] is None
    assert len(whole[2].unique()) == 300  # no shard repeats another's numbers
    other = make_batch(batches, 4, 1000, 150, range(150))
    assert not torch.equal(other[2], whole[2])


def test_on_cuda_rows_are_made_in_a_stream_of_their_own(monkeypatch):
    """With a stand-in for CUDA: threads use the GPU and the side stream, and the step waits only for that stream."""
    fake = FakeCuda(monkeypatch)
    made = []

    def batches(start, count, generator):
        made.append((fake.device(), fake.stream()))
        return (torch.full((count,), start),)

    rows = Prefetcher(batches, 1, 200, range(200), ahead=True, device="cuda")
    side = fake.streams[1]
    for step in range(3):
        assert set(rows(200 * step)[0].tolist()) == {200 * step + shard for shard in range(0, 200, 64)}
        assert fake.waits == [("side", "main")] + [("main", "side")] * (step + 1)
    assert set(made) == {(3, side)}
    assert set(fake.moved) == {("cuda", side)}


class FakeCuda:
    """The calls of `SideStream` and `to_device`, recorded; each thread has its own device and stream, as in CUDA."""

    def __init__(self, monkeypatch):
        self.here, self.waits, self.moved = threading.local(), [], []
        self.here.device = 3
        self.streams = [self.Stream(self, "main")]
        self.here.stream = self.streams[0]
        monkeypatch.setattr(torch.cuda, "current_device", self.device)
        monkeypatch.setattr(torch.cuda, "current_stream", self.stream)
        monkeypatch.setattr(torch.cuda, "set_device", lambda number: setattr(self.here, "device", number))
        monkeypatch.setattr(torch.cuda, "set_stream", lambda stream: setattr(self.here, "stream", stream))
        monkeypatch.setattr(torch.cuda, "Stream", self.side)
        monkeypatch.setattr("noisekiln.training.batches.to_device", self.to_device)

    class Stream:
        def __init__(self, cuda, name):
            self.cuda, self.name = cuda, name

        def wait_stream(self, other):
            self.cuda.waits.append((self.name, other.name))

    def side(self):
        self.streams.append(self.Stream(self, "side"))
        return self.streams[-1]

    def device(self):
        return getattr(self.here, "device", 0)

    def stream(self):
        return getattr(self.here, "stream", None)

    def to_device(self, tensor, device):
        self.moved.append((device, self.stream()))
        return tensor


def test_rows_made_ahead_are_the_same_also_after_a_jump():
    def batches(start, count, generator):
        return torch.arange(start, start + count), torch.rand(count, generator=generator)

    here, ahead = (Prefetcher(batches, 1, 8, range(2, 8), ahead=way) for way in (False, True))
    for seen in (0, 8, 16, 800, 808, 0):
        for one, other in zip(here(seen), ahead(seen), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("where", ["forward", "backward", "rows"])
def test_full_memory_halves_the_micro_batch_and_changes_nothing_else(where):
    plain = double(batch_size=48)
    short, sizes = running_short(where, at=3)
    losses = [report.loss for report in plain.run()]
    reports = list(short.run())
    np.testing.assert_allclose([report.loss for report in reports], losses, rtol=1e-12)
    assert [report.micro_batch_size for report in reports] == [48, 48] + [24] * (len(reports) - 2)
    assert sizes[:6] == [48, 48, 48, 24, 24, 24]
    assert short.images_seen == plain.images_seen
    for name, weight in plain.module.state_dict().items():
        torch.testing.assert_close(short.module.state_dict()[name], weight, rtol=1e-10, atol=1e-12)


def running_short(where, at):
    """A trainer that runs out of memory in a call of its module, and the numbers of rows that this is called with."""
    sizes, batches = [], batches_of(DATA.double())

    def no_rows(start, count, generator):
        if start == 48 * (at - 1) and len(sizes) == at - 1:
            sizes.append(count)
            raise MemoryError
        return batches(start, count, generator)

    trainer = double(batch_size=48, batches=no_rows if where == "rows" else batches)
    forward = trainer.module.forward

    def full(*rows):
        sizes.append(len(rows[0]))
        if len(sizes) == at and where == "forward":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB")
        loss = forward(*rows)
        if len(sizes) == at:
            loss.value.register_hook(out_of_memory)
        return loss

    def out_of_memory(gradient):
        raise RuntimeError("MPS backend out of memory (MPS allocated: 18.1 GB)")

    trainer.module.forward = full
    return trainer, sizes


@pytest.mark.parametrize("ahead", [False, True])
def test_a_trial_step_changes_no_state(ahead):
    """Neither buffers of the network, nor torch's generators, nor in the scale of half precision."""
    settings = {"placement": Placement(precision="fp16", prefetch=ahead)}
    plain, trial_steps = (toy(Budget(images=160), **settings) for _ in range(2))
    numbers = torch.get_rng_state()
    trial_steps.choose_micro_batch()
    trial_steps.trial_step()
    assert torch.equal(torch.get_rng_state(), numbers)
    for trainer in (plain, trial_steps):
        for report in trainer.run():
            if report.images_seen == 80:
                trainer.trial_step()
    assert_same_state(plain, trial_steps)
    assert plain.state_dict()[1]["scaler"] == trial_steps.state_dict()[1]["scaler"]


def test_a_trial_step_leaves_room_for_the_optimizer_state(monkeypatch):
    """Optimizers create their state in the first step only."""
    allocated, alive, empty_like = [], [], torch.empty_like

    def noted(tensor, **how):
        made = empty_like(tensor, **how)
        allocated.append(weakref.ref(made))
        return made

    trainer = toy(Budget(images=16))
    forward = trainer.module.forward
    trainer.module.forward = lambda *rows: alive.append(sum(r() is not None for r in allocated)) or forward(*rows)
    monkeypatch.setattr(torch, "empty_like", noted)
    trainer.trial_step()
    assert alive == [2 * len(list(trainer.module.parameters()))]
    assert not any(r() is not None for r in allocated)


def test_on_a_cpu_the_micro_batch_fits_the_available_memory(monkeypatch):
    plain, cut_ = double(batch_size=48), double(batch_size=48)
    row = 8 * (3 + 8 + 8 + 3 + 3 + 3)  # what the network makes of a row: x + noise, layers, SiLU, the difference, ...
    weights = sum(p.nbytes for p in plain.module.parameters())
    for trainer in (plain, cut_):
        room = PER_WEIGHT * weights + (1e12 if trainer is plain else PER_ACTIVATION * 10.5 * row)
        monkeypatch.setattr("noisekiln.training.micro_batch.available_bytes", lambda device, room=room: room)
        trainer.choose_micro_batch()
    assert (plain.micro_batch_size, cut_.micro_batch_size) == (48, 10)
    losses = [[report.loss for report in trainer.run()] for trainer in (plain, cut_)]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    monkeypatch.setattr("noisekiln.training.micro_batch.available_bytes", lambda device: 1)
    cut_.choose_micro_batch()
    assert cut_.micro_batch_size == 1


IN_EARNEST = """
import resource
import torch
from toy_training import Toy
from torch import nn
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.trainer import Trainer

class Wide(nn.Sequential):
    def forward(self, x):
        return Toy((super().forward(x) - x).square().mean())

def train(room):
    torch.manual_seed(0)
    network = Wide(nn.Conv2d(3, 128, 1), nn.SiLU(), nn.Conv2d(128, 3, 1))
    batches = lambda seen, count, generator: (torch.randn(count, 3, 64, 64, generator=generator),)
    trainer = Trainer(network, batches, lambda module: [torch.optim.SGD(module.parameters())],
                      budget=Budget(images=64), lr=LearningRate(0.1), batch_size=64)
    if room is not None:
        size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
        resource.setrlimit(resource.RLIMIT_AS, (1024 * size + room * 2**20,) * 2)
    for report in trainer.run():
        print(report.micro_batch_size, report.loss, flush=True)

train(None)
train(350)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_a_real_lack_of_memory_halves_the_micro_batch():
    """64 rows need about 600 MB here: with half of it, the step is repeated with smaller micro-batches."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", IN_EARNEST]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    assert found[0, 0] == 64
    assert found[1, 0] < 64
    np.testing.assert_allclose(found[1, 1], found[0, 1], rtol=1e-4)


def test_too_little_memory_for_the_optimizer_state_is_an_error():
    trainer = toy(Budget(images=80))

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB\nand more about it")

    trainer.optimizers[0].step = full
    with pytest.raises(ValueError, match=r"20 MiB\): the optimizer's moments do not fit\. What was saved before is"):
        list(trainer.run())


def test_a_parameter_without_gradient_is_named_when_several_processes_train():
    trainer = toy(Budget(images=80))
    trainer.module[0].bias = nn.Parameter(torch.ones(8))
    trainer.module[0].forward = lambda x: x @ trainer.module[0].weight.T
    trainer.trial_step()
    with pytest.raises(ValueError, match=r"0\.weight, 0\.bias, 1\.weight had no part in the loss, and several proc"):
        check_all_have_gradients(trainer.module)


@pytest.mark.slow
def test_too_little_memory_for_a_single_image_is_an_error():
    trainer = toy(Budget(images=80))

    def full(*rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.module.forward = full
    with pytest.raises(ValueError, match=r"Not even one image fits into memory.* Choose a smaller `model`"):
        list(trainer.run())
    assert trainer.micro_batch_size == 1


def test_an_operation_that_is_not_deterministic_ends_a_run_and_is_named():
    trainer = toy(Budget(images=80))

    def refused(*rows):
        raise RuntimeError("kthvalue CUDA does not have a deterministic implementation, but you set 'torch. ...'")

    trainer.gradients.forward = refused
    with pytest.raises(ValueError, match=r"`deterministic`: kthvalue CUDA does not have .* Omit `deterministic`"):
        next(trainer.run())


def test_other_errors_are_not_treated_as_out_of_memory():
    trainer = toy(Budget(images=80))

    def wrong(*rows):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    trainer.module.forward = wrong
    with pytest.raises(RuntimeError, match="shapes"):
        list(trainer.run())
