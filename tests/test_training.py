import copy
import os
import signal
import subprocess
import sys
import threading
import weakref
from dataclasses import dataclass
from itertools import islice, pairwise
from math import sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noisekiln.ema.power import FINENESS, Ema, exponent
from noisekiln.errors import Diverged
from noisekiln.machine import memory
from noisekiln.machine.interrupt import Interrupt
from noisekiln.machine.memory import bytes_allocated_by
from noisekiln.optimizers.muon import Muon, orthogonal
from noisekiln.training import checkpoints
from noisekiln.training.batches import Prefetcher, derive_seed, make_batch
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.gradients import OF_ROWS, OF_WEIGHTS
from noisekiln.training.precision import Precision
from noisekiln.training.state import put_back
from noisekiln.training.trainer import Trainer, as_line

# --- budget and rate


def test_a_budget_is_spent_by_what_runs_out_first():
    assert Budget(minutes=2).share(30, 10**9) == 0.25
    assert Budget(images=200).share(10**9, 50) == 0.25
    assert Budget(minutes=1, images=100).share(30, 80) == 0.8
    assert Budget(minutes=1, images=100).share(66, 80) == pytest.approx(1.1)


@pytest.mark.parametrize("amounts", [{}, {"minutes": 0}, {"images": -5}, {"minutes": float("nan")}])
def test_a_budget_that_trains_nothing_or_for_ever_is_refused(amounts):
    with pytest.raises(ValueError, match="Give"):
        Budget(**amounts)


def test_the_rate_rises_stays_and_falls_to_zero():
    rate = LearningRate(0.01, warm=0.1, cool=0.4)
    assert [rate(share) for share in (0, 0.05, 0.1, 0.3, 0.6, 0.8, 1.0)] == pytest.approx(
        [0, 0.005, 0.01, 0.01, 0.01, 0.005, 0]
    )
    assert rate(1.3) == 0
    shares = np.linspace(0, 1, 1001)
    assert max(abs(np.diff([rate(share) for share in shares]))) < 2e-4  # no jumps


@pytest.mark.parametrize(("warm", "cool"), [(0, 0), (0, 1), (1, 0), (0.8, 0.9)])
def test_the_rate_has_no_corner_that_divides_by_zero(warm, cool):
    rates = [LearningRate(1.0, warm, cool)(share) for share in np.linspace(0, 1, 101)]
    assert all(0 <= rate <= 1 for rate in rates)


# --- the average


def module_of(value):
    module = nn.Linear(1, 1).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(value)
    return module


def test_ema_exponents_are_edm2s():
    """Karras et al. 2024, section 3.2: widths of 0.05 and 0.10 are gammas of 16.97 and 6.94."""
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    for length in (0.02, 0.1, 0.25):
        gamma = exponent(length)  # its relative deviation, eq. 124
        assert sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3))) == pytest.approx(length)


@pytest.mark.parametrize("length", [0.0, -0.1, 0.3])
def test_an_impossible_length_is_refused(length):
    with pytest.raises(ValueError, match=r"0\.01 to 0\.25"):
        exponent(length)


def test_the_average_of_what_never_changes_is_itself():
    ema = Ema(module_of(-5.0), (0.1, 0.2))  # the start is forgotten at once
    for seen in range(10, 60, 10):
        ema.update(module_of(2.5), seen)
    assert [float(track["weight"]) for track in ema.tracks] == pytest.approx([2.5, 2.5], rel=1e-14)


def test_the_average_of_a_straight_line_has_its_closed_form():
    """Of w(tau) = tau with weights tau^gamma: t (gamma + 1)/(gamma + 2), up to half the way between two updates."""
    lengths = (0.05, 0.1, 0.2)
    ema, steps = Ema(module_of(0.0), lengths), 4000
    for seen in range(1, steps + 1):
        ema.update(module_of(seen), seen)
    for length, track in zip(lengths, ema.tracks, strict=True):
        gamma = exponent(length)
        exact = ema.images_seen * (gamma + 1) / (gamma + 2)
        assert float(track["weight"]) == pytest.approx(exact, rel=0.6 / FINENESS)


def test_it_is_updated_when_enough_is_new_whoever_looks_in_between():
    """At every one of the first steps; later rarely, and never more than 1/256 behind."""
    ema, updates = Ema(module_of(0.0)), 0
    for seen in range(64, 64 * 5000, 64):
        before = ema.images_seen
        ema.update(module_of(seen), seen)
        updates += ema.images_seen == seen
        assert ema.images_seen in (before, seen)
        assert (seen - ema.images_seen) * FINENESS < seen
        assert ema.images_seen == seen or seen > 64 * FINENESS
    assert updates < 1100  # 256 (1 + ln(5000/256)), and of 4999 steps


def test_averages_of_halves_are_kept_in_float32():
    """A small step of the average of bfloat16 weights would be rounded away."""
    module = nn.Linear(2, 1).to(torch.bfloat16)
    ema = Ema(module)
    with torch.no_grad():
        module.weight.fill_(1.0)
        for seen in range(1, 101):
            ema.update(module, seen)
        module.weight.fill_(1.0078125)  # the next one in bfloat16
        ema.update(module, 101)
    assert ema.tracks[0]["weight"].dtype == torch.float32
    assert 1.0 < float(ema.tracks[0]["weight"][0, 0]) < 1.001
    copied = copy.deepcopy(module)
    ema.copy_into(copied, module)
    assert copied.weight.dtype == torch.bfloat16


def test_only_what_is_trained_is_averaged():
    module = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
    module[0].requires_grad_(False)
    ema = Ema(module, (0.1, 0.05))
    assert [list(track) for track in ema.tracks] == [["1.weight", "1.bias"]] * 2
    copied = copy.deepcopy(module)
    with torch.no_grad():
        module[1].weight.fill_(3.0)
    ema.update(module, 8)
    ema.copy_into(copied, module, track=1)
    assert torch.equal(copied[1].weight, module[1].weight)
    assert torch.equal(copied[0].weight, module[0].weight)


def test_the_average_goes_on_from_its_state():
    def weights():
        generator = torch.Generator().manual_seed(0)
        return [module_of(float(torch.randn((), generator=generator))) for _ in range(900)]

    whole, first, second = (Ema(module_of(0.0), (0.1, 0.05)) for _ in range(3))
    for step, module in enumerate(weights(), 1):
        whole.update(module, 4 * step)
        (first if step <= 612 else second).update(module, 4 * step)
        if step == 612:
            assert first.images_seen < 4 * step  # no update has just been made
            second.load_state({name: tensor.clone() for name, tensor in first.state().items()})
    state = second.state()
    assert set(state) == {"images_seen", "0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(tensor, state[name]) for name, tensor in whole.state().items())


def test_a_state_of_other_tracks_is_refused():
    one, two = Ema(module_of(0.0)), Ema(module_of(0.0), (0.1, 0.05))
    for mine, theirs in ((one, two), (two, one)):
        with pytest.raises(ValueError, match=r"other averages than this run keeps.*give another --out"):
            mine.load_state(theirs.state())


def test_the_average_does_not_depend_on_the_batch_size():
    small, large = Ema(module_of(0.0)), Ema(module_of(0.0))
    for seen in range(8, 8001, 8):
        small.update(module_of(seen), seen)
    for seen in range(80, 8001, 80):
        large.update(module_of(seen), seen)
    assert float(large.tracks[0]["weight"]) == pytest.approx(float(small.tracks[0]["weight"]), rel=0.01)


def test_buffers_are_copied_as_they_are():
    module = nn.BatchNorm1d(2)
    ema, copied = Ema(module), copy.deepcopy(module)
    module(torch.randn(8, 2))
    ema.copy_into(copied, module)
    assert torch.equal(copied.running_mean, module.running_mean)
    assert int(copied.num_batches_tracked) == 1
    module(torch.randn(8, 2))
    assert int(copied.num_batches_tracked) == 1


# --- the loop

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
    return [Muon(matrices), torch.optim.AdamW(rest)]


class Net(nn.Sequential):
    def __init__(self, norm=True):
        super().__init__(nn.Linear(3, 8), nn.BatchNorm1d(8) if norm else nn.Identity(), nn.SiLU(), nn.Linear(8, 3))

    def forward(self, x, noise):
        return Toy((super().forward(x + noise) - x).square().mean())


def toy(budget, *, seed=0, ruin_at=None, optimizers=adamw, norm=True, data=DATA, **settings):
    """A small network with a buffer and randomness in its loss."""
    torch.manual_seed(99 + seed)

    def batches(seen, count, generator):
        rows = (seen + torch.arange(count)) % len(data)
        ruined = data[rows].clone()
        if ruin_at is not None and seen in ruin_at:
            ruined[0] = torch.nan
        return ruined, torch.randn(ruined.shape, generator=generator, dtype=data.dtype)

    settings = {"batch": 8, "rate": LearningRate(0.01)} | settings
    return Trainer(Net(norm), batches, optimizers, budget=budget, seed=seed, **settings)


def assert_same_state(one, other):
    (tensors, numbers), (other_tensors, other_numbers) = one.state(), other.state()
    assert tensors.keys() == other_tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(tensor, other_tensors[name]), name
    assert numbers["images_seen"] == other_numbers["images_seen"]


@pytest.mark.parametrize("optimizers", [adamw, sgd, muon_and_adamw])
@pytest.mark.parametrize("stop", [1, 7])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, stop, optimizers):
    budget = Budget(images=160)
    whole = toy(budget, optimizers=optimizers)
    lines = [(report.images_seen, report.loss, report.grad_norm, report.lr) for report in whole.run()]

    first = toy(budget, optimizers=optimizers)
    for _, _report in zip(range(stop), first.run(), strict=False):
        pass
    checkpoints.save(tmp_path, first.images_seen, *first.state())

    second = toy(budget, optimizers=optimizers)
    with torch.no_grad():
        for parameter in second.module.parameters():
            parameter.fill_(123.0)  # nothing of its own start may be left
    found = checkpoints.newest(tmp_path)
    second.load_state(found.parts, found.numbers)
    assert second.images_seen == first.images_seen
    resumed = [(report.images_seen, report.loss, report.grad_norm, report.lr) for report in second.run()]

    assert resumed == lines[-len(resumed) :]
    assert len(resumed) == 20 - first.images_seen // 8
    assert_same_state(whole, second)


def test_what_a_network_draws_itself_is_resumed_too():
    """By torch's own generator, which is left alone otherwise."""

    def made():
        trainer = toy(Budget(images=160), norm=False)
        trainer.module[1] = nn.Dropout(0.5)
        return trainer

    whole, first, second = made(), made(), made()
    losses = [report.loss for report in whole.run()]
    for _ in islice(first.run(), 7):
        pass
    torch.manual_seed(123)
    numbers = torch.get_rng_state()
    second.load_state([first.state()[0]], first.state()[1])
    assert [report.loss for report in second.run()] == losses[7:]
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same_state(whole, second)


def test_pieces_may_grow_when_a_run_goes_on_if_they_were_asked_for():
    before = toy(Budget(images=160), micro=2)
    next(before.run())
    state = before.state()
    for asked, goes_on in ((None, 2), (4, 4), (1, 1)):
        trainer = toy(Budget(images=160), micro=asked)
        trainer.load_state([state[0]], state[1])
        assert trainer.gradients.micro_batch_size == goes_on
    other = toy(Budget(images=160))  # what fitted for each of two processes says nothing of one
    other.load_state([state[0]], state[1] | {"processes": 2})
    assert (other.gradients.micro_batch_size, other.previous_world_size) == (8, 2)


def test_a_run_is_a_function_of_its_seed_and_not_of_the_global_one():
    losses = []
    for seed, disturbance in ((0, 1), (0, 2), (1, 1)):
        trainer = toy(Budget(images=40), seed=seed)
        torch.manual_seed(disturbance)
        losses.append([report.loss for report in trainer.run()])
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_it_learns_stops_on_time_and_reports():
    trainer = toy(Budget(images=4000))
    reports = list(trainer.run())
    assert len(reports) == 500
    assert [report.images_seen for report in reports] == list(range(8, 4001, 8))
    assert np.mean([r.loss for r in reports[-50:]]) < 0.8 * np.mean([r.loss for r in reports[:10]])
    assert reports[0].rate == 0
    assert reports[250].rate == pytest.approx(0.01)
    assert 0 < reports[-1].rate < 1e-4
    shares = [report.share for report in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(b.seconds >= a.seconds for a, b in pairwise(reports))
    assert list(trainer.run()) == []
    assert set(as_line(reports[3])) == {"images_seen", "seconds", "share", "loss", "grad_norm", "rate"}


def test_a_budget_of_minutes_ends():
    trainer = toy(Budget(minutes=0.2 / 60))
    reports = list(trainer.run())
    assert reports
    assert trainer.seconds >= 0.2
    assert reports[-1].seconds < 0.2  # no step is begun after the end


def test_seconds_before_an_interruption_count():
    trainer = toy(Budget(minutes=1.0))
    tensors, numbers = trainer.state()
    trainer.load_state([tensors], numbers | {"seconds": 61.0})
    assert list(trainer.run()) == []


def test_every_optimizer_follows_the_rate():
    trainer = toy(Budget(images=80), optimizers=muon_and_adamw)
    reports = list(trainer.run())
    assert {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups} == {reports[-1].rate}


def test_muon_steps_along_the_nearest_orthogonal_matrix():
    """Every singular value becomes about 1, and the directions stay: U S V^T -> U V^T."""
    matrices = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0))
    for given in (matrices, matrices.mT.contiguous(), 1e-4 * matrices):
        near = orthogonal(given)
        u, values, v = torch.linalg.svd(near, full_matrices=False)
        assert near.shape == given.shape
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3
        u, _, v = torch.linalg.svd(given, full_matrices=False)
        torch.testing.assert_close(u.mT @ near @ v.mT, torch.eye(5).expand(3, 5, 5), rtol=0, atol=0.4)


def test_gradients_are_clipped_and_their_norm_reported():
    trainer = toy(Budget(images=8), clip=1e-3, optimizers=sgd, lr=LearningRate(1.0, warm=0.0, cool=0.0))
    before = nn.utils.parameters_to_vector(trainer.module.parameters()).clone()
    (report,) = trainer.run()
    moved = nn.utils.parameters_to_vector(trainer.module.parameters()) - before
    assert report.grad_norm > 1e-2
    assert moved.norm().item() == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.filterwarnings("ignore")
def test_a_nan_stops_the_run_before_the_weights_are_touched():
    trainer = toy(Budget(images=800), ruin_at=[40], max_bad_steps=0)
    run = trainer.run()
    for _ in range(5):
        next(run)
    healthy = {name: value.clone() for name, value in trainer.module.named_parameters()}
    with pytest.raises(Diverged, match="After 40 images the loss is nan") as caught:
        next(run)
    assert bool(caught.value.losses[0].value.isnan())
    assert trainer.images_seen == 40
    for name, value in trainer.module.named_parameters():
        assert torch.equal(value, healthy[name])
    assert all(bool(parameter.isfinite().all()) for track in trainer.ema.tracks for parameter in track.values())


# --- steps in pieces


def double(budget=Budget(images=3000), **settings):
    torch.set_default_dtype(torch.float64)
    try:
        return toy(budget, norm=False, optimizers=muon_and_adamw, data=DATA.double(), **settings)
    finally:
        torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("micro", [1, 7, 75, 149])
def test_a_step_in_pieces_is_the_same_step(micro):
    whole, pieces = double(batch=150), double(batch=150, micro=micro)
    losses = [[report.loss for report in trainer.run()] for trainer in (whole, pieces)]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    for name, weight in whole.module.state_dict().items():
        torch.testing.assert_close(pieces.module.state_dict()[name], weight, rtol=1e-10, atol=1e-12)
    assert len(pieces.gradients.losses) == -(-150 // micro)


def test_rows_are_the_same_whoever_asks_for_which():
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


def test_threads_that_make_rows_put_them_where_the_others_are(monkeypatch):
    """Each thread of a process has a graphics card of its own choice, at first the first one."""
    chosen = {threading.get_ident(): 3}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: chosen.get(threading.get_ident(), 0))
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: chosen.update({threading.get_ident(): number}))

    def batches(start, count, generator):
        return (torch.full((count,), torch.cuda.current_device()),)

    rows = Prefetcher(batches, 1, 200, range(200), ahead=True)
    for step in range(3):
        assert rows(200 * step)[0].tolist() == [3] * 200


def test_rows_made_ahead_are_the_same_also_after_a_jump():
    def batches(start, count, generator):
        return torch.arange(start, start + count), torch.rand(count, generator=generator)

    here, ahead = (Prefetcher(batches, 1, 8, range(2, 8), ahead=way) for way in (False, True))
    for seen in (0, 8, 16, 800, 808, 0):
        for one, other in zip(here(seen), ahead(seen), strict=True):
            assert torch.equal(one, other)


@pytest.mark.parametrize("where", ["forward", "backward", "rows"])
def test_full_memory_halves_the_pieces_and_changes_nothing_else(where):
    plain, short = double(batch=48), double(batch=48)
    sizes = run_short(short, where, at=3)
    losses = [report.loss for report in plain.run()]
    reports = list(short.run())
    np.testing.assert_allclose([report.loss for report in reports], losses, rtol=1e-12)
    assert [report.micro_batch_size for report in reports] == [48, 48] + [24] * (len(reports) - 2)
    assert sizes[:6] == [48, 48, 48, 24, 24, 24]
    assert short.images_seen == plain.images_seen
    for name, weight in plain.module.state_dict().items():
        torch.testing.assert_close(short.module.state_dict()[name], weight, rtol=1e-10, atol=1e-12)


def run_short(trainer, where, at):
    """Have memory run out in a call of the module; returns the numbers of rows that it is called with."""
    forward, batches, sizes = trainer.module.forward, trainer.rows.batches, []

    def no_rows(start, count, generator):
        if start == 48 * (at - 1) and len(sizes) == at - 1:
            sizes.append(count)
            raise MemoryError
        return batches(start, count, generator)

    if where == "rows":
        trainer.rows.batches = no_rows

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
    return sizes


@pytest.mark.parametrize("ahead", [False, True])
def test_a_rehearsal_leaves_no_trace(ahead):
    """Neither in what a network counts, nor in torch's generators, nor in the scale of half precision."""
    settings = {"precision": Precision("fp16"), "ahead": ahead}
    plain, trial_steps = (toy(Budget(images=160), **settings) for _ in range(2))
    numbers = torch.get_rng_state()
    trial_steps.fit()
    trial_steps.trial_step()
    assert torch.equal(torch.get_rng_state(), numbers)
    for trainer in (plain, trial_steps):
        for report in trainer.run():
            if report.images_seen == 80:
                trainer.trial_step()
    assert_same_state(plain, trial_steps)
    assert plain.state()[1]["scaler"] == trial_steps.state()[1]["scaler"]


def test_a_rehearsal_leaves_room_for_the_moments(monkeypatch):
    """Which optimizers make in their first step only."""
    taken, there, empty_like = [], [], torch.empty_like

    def noted(tensor, **how):
        made = empty_like(tensor, **how)
        taken.append(weakref.ref(made))
        return made

    trainer = toy(Budget(images=16))
    forward = trainer.module.forward
    trainer.module.forward = lambda *rows: there.append(sum(r() is not None for r in taken)) or forward(*rows)
    monkeypatch.setattr(torch, "empty_like", noted)
    trainer.trial_step()
    assert there == [2 * len(list(trainer.module.parameters()))]
    assert not any(r() is not None for r in taken)


def test_on_a_cpu_pieces_are_cut_to_the_memory_that_is_free(monkeypatch):
    plain, cut_ = double(batch=48), double(batch=48)
    row = 8 * (3 + 8 + 8 + 3 + 3 + 3)  # what the network makes of a row: x + noise, layers, SiLU, the difference, ...
    weights = sum(p.nbytes for p in plain.module.parameters())
    for trainer in (plain, cut_):
        room = OF_WEIGHTS * weights + (1e12 if trainer is plain else OF_ROWS * 10.5 * row)
        monkeypatch.setattr("noisekiln.training.gradients.left", lambda device, room=room: room)
        trainer.fit()
    assert (plain.gradients.micro_batch_size, cut_.gradients.micro_batch_size) == (48, 10)
    losses = [[report.loss for report in trainer.run()] for trainer in (plain, cut_)]
    np.testing.assert_allclose(*losses, rtol=1e-12)
    monkeypatch.setattr("noisekiln.training.gradients.left", lambda device: 1)
    cut_.fit()
    assert cut_.gradients.micro_batch_size == 1


def test_what_work_makes_is_counted_once_for_each_place_in_memory():
    x = torch.zeros(10, 4)
    assert bytes_allocated_by(lambda: (x + 1).view(40).add_(2).mul(3)) == 2 * 160
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Flatten())
    one, two = (bytes_allocated_by(lambda n=n: network(torch.zeros(n, 3, 16, 16))) for n in (1, 2))
    assert two - one == 4 * 16 * 16 * (3 + 8)


def test_the_memory_left_is_that_of_the_container_for_each_process(monkeypatch, tmp_path):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    (tmp_path / "memory.stat").write_text("anon 100000\ninactive_file 200000\nactive_file 100000\n")
    monkeypatch.setattr(memory, "CGROUP", tmp_path)
    assert memory.left("cpu") == 900_000  # files that were read give way
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert memory.left("cpu") == 300_000
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.left("cpu") > 1_000_000
    assert memory.left("cuda") is None


IN_EARNEST = """
import resource, sys
from pathlib import Path
import numpy as np
from noisekiln.data import load
from noisekiln.runs.run import Run
from noisekiln.plan.settings import Settings
images = np.random.default_rng(0).integers(0, 256, (80, 64, 64, 3), dtype=np.uint8)
run = Run(Settings(images=128, batch_size=64, model="s", curves="none", ema_snapshots=0), load(images), Path(sys.argv[1]))
def limit():
    size = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (1024 * size + int(sys.argv[2]) * 2**20,) * 2)
run.trainer.fit = limit  # which would have cut the steps before
for report in run.steps():
    print(report.micro_batch_size, report.loss, flush=True)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory of a process")
def test_memory_that_runs_out_in_earnest(tmp_path):
    """64 rows take some 800 MB here: with half of it, a step is begun again with fewer at once."""
    told = {}
    for room in (4000, 550):
        command = [sys.executable, "-c", IN_EARNEST, str(tmp_path / str(room)), str(room)]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        told[room] = np.array([line.split() for line in done.stdout.splitlines()], dtype=float)
    assert (told[4000][:, 0] == 64).all()
    assert (told[550][:, 0] < 64).all()
    np.testing.assert_allclose(told[550][:, 1], told[4000][:, 1], rtol=1e-4)


def test_no_memory_for_the_moments_is_said():
    trainer = toy(Budget(images=80))

    def full():
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 MiB\nand more about it")

    trainer.optimizers[0].step = full
    with pytest.raises(ValueError, match=r"20 MiB\): the optimizer's moments do not fit\. What was saved before is"):
        list(trainer.run())


def test_what_has_no_gradient_is_named_where_several_processes_would_wait_for_it():
    trainer = toy(Budget(images=80))
    trainer.module[0].bias = nn.Parameter(torch.ones(8))
    trainer.module[0].forward = lambda x: x @ trainer.module[0].weight.T
    trainer.trial_step()
    trainer.gradients.ranks.world_size = 2
    with pytest.raises(ValueError, match=r"0\.weight, 0\.bias, 1\.weight had no part in the loss, and several proc"):
        trainer.gradients._check_all_have_gradients()


def test_memory_for_not_even_one_image_is_an_error():
    trainer = toy(Budget(images=80))

    def full(*rows):
        raise torch.OutOfMemoryError("CUDA out of memory")

    trainer.module.forward = full
    with pytest.raises(ValueError, match=r"Not even one image fits into memory.* Take a smaller --model"):
        list(trainer.run())
    assert trainer.gradients.micro_batch_size == 1


def test_other_errors_are_no_lack_of_memory():
    trainer = toy(Budget(images=80))

    def wrong(*rows):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    trainer.module.forward = wrong
    with pytest.raises(RuntimeError, match="shapes"):
        list(trainer.run())


# --- numbers that are none


def test_a_bad_step_is_not_taken_and_the_run_goes_on():
    trainer = toy(Budget(images=160), ruin_at=[40, 48, 80])
    before, taken = None, []
    for report in trainer.run():
        weights = [parameter.clone() for parameter in trainer.module.parameters()]
        moments = [trainer.optimizers[0].state[p]["step"].clone() for p in trainer.module.parameters()]
        if not report.applied:
            assert all(map(torch.equal, before[0], weights))
            assert before[1] == moments
        before = weights, moments
        taken.append(report.applied)
    assert [i for i, good in enumerate(taken) if not good] == [5, 6, 10]
    assert trainer.images_seen == 160
    assert trainer.bad_steps == 3 - 12 / 8  # eight good ones make up for a bad one
    assert all(bool(average.isfinite().all()) for average in trainer.ema.tracks[0].values())


def test_bad_steps_between_good_ones_do_not_go_on_for_ever():
    trainer, taken = toy(Budget(images=80_000), ruin_at=range(0, 80_000, 16)), []
    with pytest.raises(Diverged, match="others lately came to nothing too"):
        taken.extend(report.applied for report in trainer.run())
    assert taken.count(False) == 11  # each second one: 7/8 of a bad step is left of each pair
    rare = toy(Budget(images=80 * 16), ruin_at=range(0, 80 * 16, 72))
    assert sum(not report.applied for report in rare.run()) == 18


def test_what_a_fused_optimizer_counts_is_put_where_its_weights_are():
    """Its kernels read the count on the device; `meta` stands in for one here."""
    saved = {"module.weight": torch.ones(1, 2), "optimizer0.0.step": torch.tensor(7.0)}
    for fused, device in ((True, "meta"), (None, "cpu")):
        module = nn.Linear(2, 1, bias=False, device="meta")
        optimizer = torch.optim.AdamW(module.parameters())
        optimizer.param_groups[0]["fused"] = fused
        put_back(saved | {"ema.images_seen": torch.tensor(0)}, module, Ema(module, ()), [optimizer])
        assert optimizer.state[module.weight]["step"].device.type == device


def test_the_count_of_bad_steps_in_a_row_is_resumed():
    bad = range(40, 400, 8)
    whole, first = (toy(Budget(images=800), ruin_at=bad, max_bad_steps=6) for _ in range(2))
    for report in first.run():
        if report.images_seen == 64:
            break
    second = toy(Budget(images=800), ruin_at=bad, max_bad_steps=6)
    second.load_state([first.state()[0]], first.state()[1])
    assert second.bad_steps == 3
    for trainer in (whole, second):
        with pytest.raises(Diverged, match=r"After 88 images .* 6 others lately came to nothing too"):
            list(trainer.run())


@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_is_no_number_ends_the_run_and_is_never_saved():
    trainer = toy(Budget(images=800), norm=False)
    run = trainer.run()
    next(run)
    with torch.no_grad():
        trainer.module[0].weight[0, 0] = torch.nan
    with pytest.raises(Diverged, match="a weight is no longer a number"):
        trainer.state()
    with pytest.raises(Diverged, match="10 others lately came to nothing too"):
        list(run)
    assert all(bool(average.isfinite().all()) for average in trainer.ema.tracks[0].values())


# --- precision


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_precision_learns_what_single_does(name):
    single, half = (toy(Budget(images=4000), norm=False, precision=Precision(kind)) for kind in ("fp32", name))
    losses = [np.array([report.loss for report in trainer.run() if report.applied]) for trainer in (single, half)]
    assert losses[1][-50:].mean() == pytest.approx(losses[0][-50:].mean(), rel=0.05)
    assert not np.array_equal(losses[0][:10], losses[1][:10])  # it was computed in fewer bits
    assert all(parameter.dtype == torch.float32 for parameter in half.module.parameters())


def test_the_scale_of_half_precision_is_resumed_bit_for_bit(tmp_path):
    def make():
        return toy(Budget(images=400), norm=False, precision=Precision("fp16"), ruin_at=[80])

    whole, first, second = make(), make(), make()
    lines = [(report.loss, report.grad_norm, report.applied) for report in whole.run()]
    for _, _report in zip(range(12), first.run(), strict=False):
        pass
    checkpoints.save(tmp_path, first.images_seen, *first.state())
    found = checkpoints.newest(tmp_path)
    second.load_state(found.parts, found.numbers)
    assert second.precision.scaler.get_scale() == first.precision.scaler.get_scale()
    again = [(report.loss, report.grad_norm, report.applied) for report in second.run()]
    assert again == lines[first.images_seen // 8 :]
    assert_same_state(whole, second)


def test_gradients_too_large_for_half_precision_lower_the_scale():
    trainer = toy(Budget(images=80), norm=False, precision=Precision("fp16"), max_bad_steps=40)
    trainer.precision.load_state(trainer.precision.state() | {"scale": 2.0**40})
    reports = list(trainer.run())
    assert not reports[0].taken
    assert trainer.precision.scaler.get_scale() < 2.0**40


def test_seeds_of_neighbouring_steps_are_unrelated():
    seeds = {derive_seed(seed, seen) for seed in range(50) for seen in range(0, 800, 8)}
    assert len(seeds) == 5000
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- interrupts


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_sets_a_flag_and_a_second_one_is_as_before(number, monkeypatch):
    """What comes within a second is the same one, passed on by torchrun."""
    before, heard = signal.signal(number, lambda *_: heard.append(number)), []
    try:
        with Interrupt() as interrupt:
            assert interrupt.signal is None
            for _ in range(3):
                signal.raise_signal(number)
                assert (interrupt.signal, heard) == (number, [])
            monkeypatch.setattr("noisekiln.machine.interrupt.ONE", 0.0)
            signal.raise_signal(number)
            assert heard == [number] * (number == signal.SIGINT)  # only people are impatient
    finally:
        signal.signal(number, before)
    assert signal.getsignal(number) == before
    assert signal.getsignal(signal.SIGINT) == signal.default_int_handler


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGHUP")
def test_a_closed_terminal_stops_a_run_unless_it_was_started_not_to_care():
    for before, heard in ((signal.SIG_DFL, signal.SIGHUP), (signal.SIG_IGN, None)):
        mine = signal.signal(signal.SIGHUP, before)
        try:
            with Interrupt() as interrupt:
                signal.raise_signal(signal.SIGHUP)
                assert interrupt.signal == heard
        finally:
            signal.signal(signal.SIGHUP, mine)


def test_handlers_are_given_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError, match="within"), Interrupt():
        raise RuntimeError("within")
    assert signal.getsignal(signal.SIGTERM) == before
