"""The training loop: budgets, rates, resuming, bad steps, precision."""

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from torch import nn

from noisekiln.ema.power import Ema
from noisekiln.errors import Diverged
from noisekiln.optimizers.muon import MuonOptimizer, orthogonal_together
from noisekiln.training import checkpoints
from noisekiln.training.batches import CHUNK, Prefetcher, derive_seed, make_batch
from noisekiln.training.budget import Budget, LearningRate
from noisekiln.training.placement import Placement
from noisekiln.training.report import report_record
from noisekiln.training.state import restore_tensors
from noisekiln.training.trainer import Trainer
from toy_training import DATA, Net, adamw, assert_same_state, batches_of, muon_and_adamw, sgd, toy


def test_the_source_of_rows_is_an_argument_and_not_changed_later():
    """Rows that are made ahead would still come from the old one."""
    trainer = toy(Budget(images=16))
    with pytest.raises(AttributeError):
        trainer.batches = trainer.batches


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
    rate = LearningRate(0.01, warmup=0.1, cooldown=0.4)
    assert [rate(share) for share in (0, 0.05, 0.1, 0.3, 0.6, 0.8, 1.0)] == pytest.approx(
        [0, 0.005, 0.01, 0.01, 0.01, 0.005, 0]
    )
    assert rate(1.3) == 0
    shares = np.linspace(0, 1, 1001)
    assert max(abs(np.diff([rate(share) for share in shares]))) < 2e-4  # no jumps


@pytest.mark.parametrize(("warmup", "cooldown"), [(0, 0), (0, 1), (1, 0), (0.8, 0.9)])
def test_the_rate_has_no_corner_that_divides_by_zero(warmup, cooldown):
    rates = [LearningRate(1.0, warmup, cooldown)(share) for share in np.linspace(0, 1, 101)]
    assert all(0 <= rate <= 1 for rate in rates)


# --- the loop


@pytest.mark.parametrize("optimizers", [adamw, sgd, muon_and_adamw])
@pytest.mark.parametrize("stop", [1, 7])
def test_interrupted_and_resumed_is_uninterrupted_bit_for_bit(tmp_path, stop, optimizers):
    budget = Budget(images=160)
    whole = toy(budget, optimizers=optimizers)
    lines = [(report.images_seen, report.loss, report.grad_norm, report.lr) for report in whole.run()]

    first = toy(budget, optimizers=optimizers)
    for _, _report in zip(range(stop), first.run(), strict=False):
        pass
    checkpoints.save(tmp_path, first.images_seen, *first.state_dict())

    second = toy(budget, optimizers=optimizers)
    with torch.no_grad():
        for parameter in second.module.parameters():
            parameter.fill_(123.0)  # nothing of its own start may be left
    found = checkpoints.load_newest(tmp_path)
    second.load_state_dict(found.shards, found.state)
    assert second.images_seen == first.images_seen
    resumed = [(report.images_seen, report.loss, report.grad_norm, report.lr) for report in second.run()]

    assert resumed == lines[-len(resumed) :]
    assert len(resumed) == 20 - first.images_seen // 8
    assert_same_state(whole, second)


def test_what_a_network_draws_itself_is_resumed_too():
    """With torch's global generator, which is not changed otherwise."""

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
    second.load_state_dict([first.state_dict()[0]], first.state_dict()[1])
    assert [report.loss for report in second.run()] == losses[7:]
    assert torch.equal(torch.get_rng_state(), numbers)
    assert_same_state(whole, second)


def test_a_resumed_run_may_be_given_a_larger_micro_batch():
    before = toy(Budget(images=160), placement=Placement(micro_batch_size=2))
    next(before.run())
    state = before.state_dict()
    for requested, resumed_with in ((None, 2), (4, 4), (1, 1)):
        trainer = toy(Budget(images=160), placement=Placement(micro_batch_size=requested))
        trainer.load_state_dict([state[0]], state[1])
        assert trainer.micro_batch_size == resumed_with
    for changed in ({"world_size": 2}, {"device": "cuda"}):  # what fitted there may not fit here
        other = toy(Budget(images=160))
        other.load_state_dict([state[0]], state[1] | changed)
        assert (other.micro_batch_size, other.previous_world_size) == (8, changed.get("world_size", 1))


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
    assert [report.lr for report in reports] == [trainer.lr((step + 0.5) / 500) for step in range(500)]
    assert 0 < reports[0].lr < reports[1].lr
    assert reports[249].lr == pytest.approx(0.01)
    assert 0 < reports[-1].lr < 1e-4
    shares = [report.share for report in reports]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert all(b.seconds >= a.seconds for a, b in pairwise(reports))
    assert list(trainer.run()) == []
    assert set(report_record(reports[3])) == {"images_seen", "seconds", "share", "loss", "grad_norm", "lr"}


def test_a_budget_of_minutes_ends():
    trainer = toy(Budget(minutes=0.2 / 60))
    reports = list(trainer.run())
    assert reports
    assert trainer.seconds >= 0.2
    assert reports[-1].seconds < 0.2  # no step is begun after the end


def test_the_rate_of_a_budget_of_minutes_is_that_of_the_middle_of_the_step(monkeypatch):
    """As far as known: half of the time that the gradient took."""
    now = iter(range(0, 1000, 2))  # each look at the clock finds it 2 s later
    monkeypatch.setattr("noisekiln.training.trainer.time.perf_counter", lambda: float(next(now)))
    trainer = toy(Budget(minutes=1), lr=LearningRate(1.0, warmup=1.0, cooldown=0.0))
    first, second = islice(trainer.run(), 2)
    assert first.lr == pytest.approx(1 / 60)  # begun at 0 s, 2 s later its gradient was there
    assert second.lr == pytest.approx((second.seconds + 1) / 60)


def test_the_stop_signal_ends_a_run():
    trainer, signals = toy(Budget(images=160)), iter([0, 0, 15])
    assert len(list(trainer.run(lambda: next(signals)))) == 3
    assert trainer.stopped_by == 15
    assert len(list(trainer.run())) == 17
    assert trainer.stopped_by == 0


def test_seconds_before_an_interruption_count():
    trainer = toy(Budget(minutes=1.0))
    tensors, numbers = trainer.state_dict()
    trainer.load_state_dict([tensors], numbers | {"seconds": 61.0})
    assert list(trainer.run()) == []


def test_every_optimizer_follows_the_rate():
    trainer = toy(Budget(images=80), optimizers=muon_and_adamw)
    reports = list(trainer.run())
    assert {group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups} == {reports[-1].lr}


def test_gradients_are_clipped_and_their_norm_reported():
    trainer = toy(Budget(images=8), max_grad_norm=1e-3, optimizers=sgd, lr=LearningRate(1.0, warmup=0.0, cooldown=0.0))
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


def test_muon_steps_along_the_nearest_orthogonal_matrix():
    """Every singular value becomes about 1, and the directions stay: U S V^T -> U V^T."""
    matrices = torch.randn(3, 12, 5, generator=torch.Generator().manual_seed(0))
    for matrix in (matrices, matrices.mT.contiguous(), 1e-4 * matrices):
        (near,) = orthogonal_together([matrix])
        u, values, v = torch.linalg.svd(near, full_matrices=False)
        assert near.shape == matrix.shape
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3
        u, _, v = torch.linalg.svd(matrix, full_matrices=False)
        torch.testing.assert_close(u.mT @ near @ v.mT, torch.eye(5).expand(3, 5, 5), rtol=0, atol=0.4)


def test_two_steps_of_muon_by_hand():
    """Nesterov momentum, orthogonalised, times rate, boost, and AdamW's size of 0.2 for each entry."""
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(4, 7, generator=generator))
    gradients = torch.randn(2, 4, 7, generator=generator)
    optimizer = MuonOptimizer([weight], lr=0.1, boost=3.0, momentum=0.8)
    expected, mean = weight.detach().clone(), torch.zeros(4, 7)
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        mean = 0.8 * mean + 0.2 * gradient
        direction = orthogonal_together([(0.2 * gradient + 0.8 * mean)[None]])[0][0]
        expected -= 0.1 * 3.0 * 0.2 * 7**0.5 * direction
    torch.testing.assert_close(weight.detach(), expected)
    assert float(direction.square().mean() * 7) == pytest.approx(1, abs=0.25)  # so the entries have a size of 0.2


def test_matrices_with_one_smaller_side_are_computed_together():
    generator = torch.Generator().manual_seed(0)
    stacks = [torch.randn(*shape, generator=generator) for shape in ((3, 12, 5), (1, 5, 7), (2, 5, 5))]
    for together, stack in zip(orthogonal_together(stacks), stacks, strict=True):
        torch.testing.assert_close(together, orthogonal_together([stack])[0], rtol=1e-4, atol=1e-5)


# --- numbers that are none


def test_a_bad_step_is_skipped_and_the_run_continues():
    trainer = toy(Budget(images=160), ruin_at=[40, 48, 80])
    before, applied = None, []
    for report in trainer.run():
        weights = [parameter.clone() for parameter in trainer.module.parameters()]
        moments = [trainer.optimizers[0].state[p]["step"].clone() for p in trainer.module.parameters()]
        if not report.applied:
            assert all(map(torch.equal, before[0], weights))
            assert before[1] == moments
        before = weights, moments
        applied.append(report.applied)
    assert [i for i, good in enumerate(applied) if not good] == [5, 6, 10]
    assert trainer.images_seen == 160
    assert trainer.bad_steps == 3 - 12 / 8  # eight good ones make up for a bad one
    assert all(bool(average.isfinite().all()) for average in trainer.ema.tracks[0].values())


def test_many_bad_steps_between_good_ones_end_the_run():
    trainer, applied = toy(Budget(images=80_000), ruin_at=range(0, 80_000, 16)), []
    with pytest.raises(Diverged, match="other recent steps were skipped"):
        applied.extend(report.applied for report in trainer.run())
    assert applied.count(False) == 11  # each second one: 7/8 of a bad step is left of each pair
    rare = toy(Budget(images=80 * 16), ruin_at=range(0, 80 * 16, 72))
    assert sum(not report.applied for report in rare.run()) == 18


def test_what_a_fused_optimizer_counts_is_put_where_its_weights_are():
    """Its kernels read the count on the device; `meta` stands in for one here."""
    saved = {"module.weight": torch.ones(1, 2), "optimizer0.0.step": torch.tensor(7.0)}
    for fused, device in ((True, "meta"), (None, "cpu")):
        module = nn.Linear(2, 1, bias=False, device="meta")
        optimizer = torch.optim.AdamW(module.parameters())
        optimizer.param_groups[0]["fused"] = fused
        restore_tensors(saved | {"ema.images_seen": torch.tensor(0)}, module, Ema(module, ()), [optimizer])
        assert optimizer.state[module.weight]["step"].device.type == device


def test_the_count_of_bad_steps_in_a_row_is_resumed():
    bad = range(40, 400, 8)
    whole, first = (toy(Budget(images=800), ruin_at=bad, max_bad_steps=6) for _ in range(2))
    for report in first.run():
        if report.images_seen == 64:
            break
    second = toy(Budget(images=800), ruin_at=bad, max_bad_steps=6)
    second.load_state_dict([first.state_dict()[0]], first.state_dict()[1])
    assert second.bad_steps == 3
    for trainer in (whole, second):
        with pytest.raises(Diverged, match=r"After 88 images .* 6 other recent steps were skipped"):
            list(trainer.run())


@pytest.mark.filterwarnings("ignore")
def test_a_weight_that_is_no_number_ends_the_run_and_is_never_saved():
    trainer = toy(Budget(images=800), norm=False)
    run = trainer.run()
    next(run)
    with torch.no_grad():
        trainer.module[0].weight[0, 0] = torch.nan
    with pytest.raises(Diverged, match="a weight is NaN or infinite"):
        trainer.state_dict()
    with pytest.raises(Diverged, match="10 other recent steps were skipped"):
        list(run)
    assert all(bool(average.isfinite().all()) for average in trainer.ema.tracks[0].values())


# --- precision


@pytest.mark.parametrize("name", ["bf16", "fp16"])
def test_half_precision_learns_what_single_does(name):
    single, half = (
        toy(Budget(images=2000), norm=False, placement=Placement(precision=kind)) for kind in ("fp32", name)
    )
    losses = [np.array([report.loss for report in trainer.run() if report.applied]) for trainer in (single, half)]
    assert losses[1][-50:].mean() == pytest.approx(losses[0][-50:].mean(), rel=0.05)
    assert not np.array_equal(losses[0][:10], losses[1][:10])  # it was computed in fewer bits
    assert all(parameter.dtype == torch.float32 for parameter in half.module.parameters())


def test_the_scale_of_half_precision_is_resumed_bit_for_bit(tmp_path):
    def make():
        return toy(Budget(images=400), norm=False, placement=Placement(precision="fp16"), ruin_at=[80])

    whole, first, second = make(), make(), make()
    lines = [(report.loss, report.grad_norm, report.applied) for report in whole.run()]
    for _, _report in zip(range(12), first.run(), strict=False):
        pass
    checkpoints.save(tmp_path, first.images_seen, *first.state_dict())
    found = checkpoints.load_newest(tmp_path)
    second.load_state_dict(found.shards, found.state)
    assert second.precision.scaler.get_scale() == first.precision.scaler.get_scale()
    again = [(report.loss, report.grad_norm, report.applied) for report in second.run()]
    assert again == lines[first.images_seen // 8 :]
    assert_same_state(whole, second)


def test_gradients_too_large_for_half_precision_lower_the_scale():
    trainer = toy(Budget(images=80), norm=False, placement=Placement(precision="fp16"), max_bad_steps=40)
    trainer.precision.load_state_dict(trainer.precision.state_dict() | {"scale": 2.0**40})
    reports = list(trainer.run())
    assert not reports[0].applied
    assert trainer.precision.scaler.get_scale() < 2.0**40


def test_seeds_of_neighbouring_steps_are_unrelated():
    seeds = {derive_seed(seed, seen) for seed in range(50) for seen in range(0, 800, 8)}
    assert len(seeds) == 5000
    assert all(0 <= seed < 2**63 for seed in seeds)


# --- rows


def test_rows_are_drawn_in_chunks_each_from_its_own_seed():
    """Chunks are of `CHUNK` images, but for the last; the rows of a part are those of the whole."""
    drawn = []

    def batches(seen, count, generator):
        drawn.append((seen, count))
        return (seen + torch.arange(count), torch.rand(count, generator=generator))

    count = CHUNK + 36
    rows, noise = make_batch(batches, 7, 1000, count, range(count))
    assert drawn == [(1000, CHUNK), (1000 + CHUNK, 36)]
    assert rows.tolist() == list(range(1000, 1000 + count))
    assert torch.equal(noise[:CHUNK], torch.rand(CHUNK, generator=_generator(7, 1000)))
    assert torch.equal(noise[CHUNK:], torch.rand(36, generator=_generator(7, 1000 + CHUNK)))
    for part in (range(3, 9), range(CHUNK - 2, CHUNK + 5), range(CHUNK + 1, count)):
        some, some_noise = make_batch(batches, 7, 1000, count, part)
        assert some.tolist() == [1000 + i for i in part]
        assert torch.equal(some_noise, noise[part.start : part.stop])


def _generator(*numbers):
    return torch.Generator().manual_seed(derive_seed(*numbers))


def test_a_repeated_step_does_not_discard_what_was_made_ahead():
    made = []

    def batches(seen, count, generator):
        made.append(seen)
        return (seen + torch.arange(count),)

    rows = Prefetcher(batches, 0, 8, range(8), ahead=True)
    for seen in (0, 0, 8):
        assert rows(seen)[0].tolist() == list(range(seen, seen + 8))
    rows(16)
    assert (made.count(0), made.count(8), made.count(16)) == (2, 1, 1)


@pytest.mark.parametrize(("ours", "theirs", "named"), [((3, 4), (3, 5), "0.weight"), ((3, 4), (3, 4, 2), "1.weight")])
def test_weights_of_another_network_are_refused_by_name(ours, theirs, named):
    """As of a run.yaml that was changed by hand."""

    def net(sizes):
        return nn.Sequential(*(nn.Linear(before, after) for before, after in pairwise(sizes)))

    tensors = {f"module.{name}": value for name, value in net(theirs).state_dict().items()}
    with pytest.raises(ValueError, match=f"weights of another network: they differ in these tensors: .*{named}"):
        restore_tensors(tensors, net(ours), Ema(net(ours), [0.1]), [])


class Drawing(Net):
    """Draws a number in every call, as dropout does."""

    def __init__(self):
        super().__init__(norm=False)
        self.drawn = []

    def forward(self, x, noise):
        self.drawn.append(float(torch.rand(())))
        return super().forward(x, noise)


def test_micro_batches_of_a_step_draw_numbers_of_their_own():
    def drawn(micro):
        placement = Placement(micro_batch_size=micro)
        module = Drawing()
        batches, lr = batches_of(DATA), LearningRate(0.01)
        trainer = Trainer(module, batches, adamw, budget=Budget(images=16), lr=lr, batch_size=8, placement=placement)
        list(trainer.run())
        return module.drawn

    assert len(set(drawn(4))) == len(drawn(4)) == 4
    assert drawn(4) == drawn(4)
