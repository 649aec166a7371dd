import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.draws.base import Draw, stratified
from noisekiln.draws.log_normal import LogNormal
from noisekiln.draws.logit_normal import LogitNormal
from noisekiln.draws.steps import Steps
from noisekiln.draws.uniform import Uniform
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.rectified import Rectified

U = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000  # the midpoint rule: expectations without chance
every_draw = pytest.mark.parametrize("draw", [find(Draw, name)() for name in names("draws")], ids=repr)


@every_draw
def test_noise_rises_with_the_quantile(draw):
    t = draw(U)
    assert bool((t.angle.diff() >= 0).all())
    assert float(t.angle[-1] - t.angle[0]) > 0.5


@every_draw
def test_levels_are_finite_out_to_the_last_quantile(draw):
    t = draw(torch.tensor([1e-7, 1e-3, 0.5, 1 - 1e-7], dtype=torch.float64))
    assert t.alpha.shape == t.sigma.shape == (4,)
    assert bool(torch.isfinite(torch.stack(t)).all())
    assert bool(((t.sigma > 0) & (t.alpha >= 0)).all())


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_stratified_puts_one_number_in_each_cell(count):
    u = stratified(count, torch.Generator().manual_seed(3))
    assert u.dtype == torch.float64
    assert sorted((u * count).floor().tolist()) == list(range(count))


def test_a_number_is_anywhere_in_its_cell():
    u = torch.stack([stratified(4, torch.Generator().manual_seed(seed)) for seed in range(500)])
    within = u * 4 % 1
    assert abs(float(within.mean()) - 0.5) < 0.02
    assert abs(float(within.var()) - 1 / 12) < 0.005


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 1e-7), (1.0, 1 - 1e-7)])
def test_the_ends_themselves_are_never_drawn(jitter, expected, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda count, **_: torch.full((count,), jitter, dtype=torch.float64))
    assert stratified(1, torch.Generator()).tolist() == [expected]


def test_stratified_is_uniform_shuffled_and_the_generators_own():
    draws = torch.stack([stratified(4, torch.Generator().manual_seed(seed)) for seed in range(4000)])
    assert float(draws.mean()) == pytest.approx(0.5, abs=0.01)
    assert float(draws.std()) == pytest.approx(12**-0.5, abs=0.01)
    for place in range(4):  # every place of the batch sees every cell equally often
        assert torch.bincount((draws[:, place] * 4).long()).tolist() == pytest.approx([1000] * 4, abs=120)
    assert torch.equal(stratified(9, torch.Generator().manual_seed(5)), stratified(9, torch.Generator().manual_seed(5)))


def test_log_normal_has_its_mean_and_deviation():
    t = LogNormal(-0.3, 0.9)(U)
    log = t.nsr.log()
    assert float(log.mean()) == pytest.approx(-0.3, abs=1e-6)
    assert float(log.std()) == pytest.approx(0.9, abs=1e-3)
    torch.testing.assert_close(t.norm, torch.ones_like(U))


def test_the_default_is_edms_for_unit_variance():
    assert LogNormal().mean == pytest.approx(-1.2 + torch.tensor(2.0).log().item(), abs=0.01)


def test_logit_normal_has_its_mean_and_deviation_on_the_straight_path():
    t = LogitNormal(0.4, 1.3)(U)
    assert float(t.sigma.logit().mean()) == pytest.approx(0.4, abs=1e-6)
    assert float(t.sigma.logit().std()) == pytest.approx(1.3, abs=1e-3)
    torch.testing.assert_close(t.alpha + t.sigma, torch.ones_like(U))


def test_uniform_is_uniform_in_the_schedules_time():
    torch.testing.assert_close(Uniform(Rectified())(U).sigma, U)
    torch.testing.assert_close(Uniform()(U).angle, Cosine()(U).angle)


def test_steps_hit_exactly_the_table():
    t = Steps()(U)
    table = LinearBetas()((torch.arange(1000, dtype=torch.float64) + 1) / 1000)
    assert torch.equal(t.alpha.view(1000, 20), table.alpha[:, None].expand(-1, 20))
    alpha_bar = (1 - LinearBetas().betas()).cumprod(0)
    torch.testing.assert_close(table.alpha**2, alpha_bar, rtol=1e-11, atol=0)


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_steps_are_equally_likely(count):
    ratios, times = Steps(Rectified(), count)(U).sigma.unique(return_counts=True)
    assert ratios.tolist() == pytest.approx([(i + 1) / count for i in range(count)])
    assert times.tolist() == pytest.approx([20_000 / count] * count, abs=1)


@pytest.mark.parametrize("wrong", [lambda: LogNormal(std=0), lambda: LogitNormal(std=0), lambda: Steps(count=0)])
def test_impossible_draws_are_refused(wrong):
    with pytest.raises(ValueError):
        wrong()


@every_draw
def test_levels_for_images_are_those_of_stratified_quantiles(draw):
    x = torch.zeros(9, 1, 2, 2)
    levels = draw.levels_for(x, torch.Generator().manual_seed(5))
    expected = draw(stratified(9, torch.Generator().manual_seed(5)))
    for ours, theirs in zip(levels, expected, strict=True):
        assert ours.dtype is torch.float32
        assert ours.is_contiguous()
        assert torch.equal(ours, theirs.float())
