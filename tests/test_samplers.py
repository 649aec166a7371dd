"""Samplers against data whose denoiser and flow are known exactly: orders are measured, not believed."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from math import hypot, sqrt

import numpy as np
import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.components.spec import build
from noisekiln.estimate import Estimate
from noisekiln.levels import CLEAN, level
from noisekiln.posterior import posterior
from noisekiln.samplers.adams import Adams
from noisekiln.samplers.ancestral import Ancestral
from noisekiln.samplers.base import Sampler, SeededNoise, grid, sample
from noisekiln.samplers.ddim import DDIM
from noisekiln.samplers.dpmpp_2m import DPMpp2M
from noisekiln.samplers.heun import Heun
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.rectified import Rectified
from noisekiln.textbook import Chain
from oracles import BOTH, GAUSSIAN, Mixture, moments, no_noise, walk

SETTINGS = {  # other settings than the default that must hold what the default holds
    "ddim": ["ddim(eta=0.5)", "ddim(eta=1)"],
    "ancestral": ["ancestral(variance='large')"],
    "resample": ["resample(sampler=heun, times=2)"],
}
SPECS = [spec for name in names("samplers") for spec in (name, *SETTINGS.get(name, []))]
SCHEDULES = {repr(schedule): schedule for schedule in (find(Schedule, name)() for name in names("schedules"))}
STARTS = torch.tensor([-1.4, -0.6, -0.1, 0.3, 0.8, 1.5], dtype=torch.float64).view(-1, 1, 1, 1)


def is_deterministic(spec):
    try:
        walk(GAUSSIAN, build(Sampler, spec), grid(Cosine(), 3), STARTS)
    except AssertionError:
        return False
    return True


DETERMINISTIC = [spec for spec in SPECS if is_deterministic(spec)]
RANDOM = [spec for spec in SPECS if spec not in DETERMINISTIC]
every_sampler = pytest.mark.parametrize("spec", SPECS)
every_schedule = pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)


@cache
def curve(schedule, steps, start=1.0, end=0.0):
    """Evenly spaced in the schedule's time, with no clean level added."""
    return [schedule(time) for time in torch.linspace(start, end, steps + 1, dtype=torch.float64)]


def error(data, sampler, levels):
    x = levels[0].norm * STARTS
    return float((walk(data, sampler, levels, x) - exact(data, levels[0], levels[-1])).square().mean().sqrt())


@cache
def exact(data, t, s):
    return data.flow(t.norm * STARTS, t, s)


def slope(steps, errors):
    return -np.polyfit(np.log(steps), np.log(errors), 1)[0]


def test_there_are_deterministic_and_random_ones():
    assert {"ddim", "heun", "dpmpp_2m", "adams"} <= set(DETERMINISTIC)
    assert {"ancestral", "ddim(eta=1)"} <= set(RANDOM)


# --- order of convergence


@pytest.mark.parametrize("data", BOTH.values(), ids=BOTH)
@every_schedule
@pytest.mark.parametrize("spec", DETERMINISTIC)
def test_the_order_is_as_declared_where_every_schedule_is_smooth(spec, schedule, data):
    """Times 0.98 to 0.02: no infinite log-SNR, no square root of time."""
    sampler, steps = build(Sampler, spec), [32, 64, 128]
    errors = [error(data, sampler, curve(schedule, n, 0.98, 0.02)) for n in steps]
    assert slope(steps, errors) >= sampler.order - 0.3
    assert errors[-1] < (0.02 if sampler.order == 1 else 2e-3)


WHOLE = {  # where a sampler keeps its order from one end of the schedule to the other
    "ddim": [Cosine(), Cosine(offset=0), LinearBetas(), Rectified(), Karras()],
    "adams": [Cosine(), Cosine(offset=0), LinearBetas(), Rectified(), Karras()],
    "heun": [Cosine(offset=0), Rectified(), Karras()],  # not where sigma is like the square root of time near 0
    "dpmpp_2m": [Karras()],  # not where log-SNR is infinite
}


@pytest.mark.parametrize("data", BOTH.values(), ids=BOTH)
@pytest.mark.parametrize(("spec", "schedule"), [(spec, s) for spec, all_of in WHOLE.items() for s in all_of], ids=str)
def test_the_order_is_as_declared_up_to_both_ends(spec, schedule, data):
    sampler, steps = build(Sampler, spec), [32, 64, 128]
    errors = [error(data, sampler, curve(schedule, n)) for n in steps]
    assert slope(steps, errors) >= sampler.order - 0.3
    assert errors[-1] < (0.02 if sampler.order == 1 else 2e-3)


@every_schedule
@pytest.mark.parametrize("spec", RANDOM)
def test_random_samplers_have_their_order_in_distribution(spec, schedule):
    """The exact deviation of the samples against that of the data; the mean has no error at all."""
    sampler, steps, errors = build(Sampler, spec), [32, 64, 128], []
    for n in steps:
        levels = curve(schedule, n, 0.98, 0.02)
        (mean, std), (start_mean, start_std) = of_noisy_data(levels[-1]), of_noisy_data(levels[0])
        got_mean, got_std = moments(GAUSSIAN, sampler, levels, start_mean, start_std)
        assert got_mean == pytest.approx(mean, abs=1e-9)
        errors.append(abs(got_std - std))
    assert slope(steps, errors) >= sampler.order - 0.3
    assert errors[-1] < (0.05 if sampler.cost < 10 else 0.1)  # repeated steps add their errors


def of_noisy_data(t):
    return float(t.alpha) * GAUSSIAN.mean, hypot(float(t.alpha) * sqrt(GAUSSIAN.variance), float(t.sigma))


@every_schedule
@every_sampler
def test_with_many_steps_the_samples_are_distributed_as_the_data(spec, schedule):
    levels = grid(schedule, 300)
    sampler = build(Sampler, spec)
    mean, std = moments(GAUSSIAN, sampler, levels, *of_noisy_data(levels[0]))
    assert mean == pytest.approx(1.3, abs=5e-3)
    assert std == pytest.approx(0.7, rel=0.03 if sampler.cost < 10 else 0.06)


# --- what holds at any number of steps


@every_schedule
@pytest.mark.parametrize("spec", DETERMINISTIC)
def test_one_single_image_is_found_exactly_by_any_steps(spec, schedule):
    """If the data are one image, its flow lies in a plane and image and noise never change: no step has an error."""
    one = Mixture((1.0,), (0.6,), (1e-12,))
    levels = curve(schedule, 5, 0.97, 0.06)
    x = levels[0].alpha * 0.6 + levels[0].sigma * STARTS
    for s, x_s in zip(levels[1:], sample(one, build(Sampler, spec), levels, x, no_noise), strict=True):
        torch.testing.assert_close(x_s, s.alpha * 0.6 + s.sigma * STARTS, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("steps", [1, 2, 3, 10])
@every_schedule
@every_sampler
def test_from_pure_noise_to_clean_nothing_is_nan(spec, schedule, steps, dtype):
    levels = grid(schedule, steps)
    noise = SeededNoise([1, 2, 3])
    x = levels[0].norm * noise(torch.empty(3, 2, 4, 5, dtype=dtype))
    walked = list(sample(BOTH["mixture"], build(Sampler, spec), levels, x, noise))
    assert len(walked) == steps
    for x in walked:
        assert x.shape == (3, 2, 4, 5)
        assert x.dtype == dtype
        assert bool(x.isfinite().all())
    if steps == 10:
        assert float(walked[-1].abs().max()) < 4


@every_sampler
def test_the_last_level_is_without_fresh_noise(spec):
    """The same start and the same middle give the same end, for any noise in the last step."""
    sampler, t = build(Sampler, spec), level(0.9, 0.1)
    first, second = (
        sampler.step(GAUSSIAN, STARTS, t, CLEAN, None, noise)[0] for noise in (torch.zeros_like, torch.ones_like)
    )
    assert torch.equal(first, second)


@dataclass
class Counting:
    calls: list

    def __call__(self, x_t, t, *, to=None):
        self.calls.append((t, to))
        return GAUSSIAN(x_t, t)


@every_sampler
def test_the_cost_is_as_declared_and_the_target_level_is_passed(spec):
    sampler, denoise, levels = build(Sampler, spec), Counting([]), curve(Cosine(), 6, 0.9, 0.1)
    walk(denoise, sampler, levels, STARTS, torch.zeros_like)
    assert len(denoise.calls) == 6 * sampler.cost
    assert denoise.calls[:: sampler.cost] == list(pairwise(levels))


@every_sampler
def test_a_model_is_never_called_at_the_clean_level(spec):
    """A clean image needs no estimate, and predictions of x0 do not determine its noise."""
    denoise = Counting([])
    walk(denoise, build(Sampler, spec), grid(Rectified(), 5), STARTS, torch.zeros_like)
    assert all(t.sigma > 0 for t, _ in denoise.calls)


@every_sampler
def test_a_sampler_keeps_no_state(spec):
    sampler, levels = build(Sampler, spec), grid(Rectified(), 5)
    first, again = (walk(GAUSSIAN, sampler, levels, STARTS, SeededNoise(range(6))) for _ in range(2))
    assert torch.equal(first, again)
    assert sampler == build(Sampler, spec)


@every_sampler
def test_a_batch_is_its_images(spec):
    sampler, levels = build(Sampler, spec), grid(Cosine(), 6)
    together = walk(BOTH["mixture"], sampler, levels, STARTS, SeededNoise(range(6)))
    for i in range(6):
        alone = walk(BOTH["mixture"], sampler, levels, STARTS[i : i + 1], SeededNoise([i]))
        torch.testing.assert_close(alone, together[i : i + 1], rtol=0, atol=1e-12)


# --- the papers' formulas


def fixed(x, eps):
    """A denoiser with a constant estimate, so that only the arithmetic of a step is tested."""
    return lambda x_t, t, *, to=None: Estimate(torch.full_like(x_t, x), torch.full_like(x_t, eps))


def test_ddim_without_noise_is_edms_and_flow_matchings_euler_step():
    for schedule, euler in (
        (Karras(), lambda x, believed, t, s: x + (s.sigma - t.sigma) * (x - believed.x) / t.sigma),
        (Rectified(), lambda x, believed, t, s: x + (s.sigma - t.sigma) * (believed.eps - believed.x)),
    ):
        t, s = curve(schedule, 10)[2:4]
        x = t.norm * STARTS
        torch.testing.assert_close(
            walk(GAUSSIAN, DDIM(), [t, s], x), euler(x, GAUSSIAN(x, t), t, s), rtol=0, atol=1e-10
        )


def test_heun_is_edms_algorithm_1():
    t, s = level(1.0, 5.0), level(1.0, 3.0)
    x = t.norm * STARTS
    d = (x - GAUSSIAN(x, t).x) / 5
    guess = x - 2 * d
    expected = x - 2 * (d + (guess - GAUSSIAN(guess, s).x) / 3) / 2
    torch.testing.assert_close(walk(GAUSSIAN, Heun(), [t, s], x), expected, rtol=0, atol=1e-12)


def test_dpmpp_2m_is_its_papers_algorithm_2():
    levels = curve(Cosine(), 9, 0.9, 0.1)
    x, lam = STARTS, [-float(t.nsr.log()) for t in levels]
    before = None
    for i, (t, s) in enumerate(pairwise(levels)):
        here = GAUSSIAN(x, t).x
        h = lam[i + 1] - lam[i]
        aim = here
        if before is not None:
            r = (lam[i] - lam[i - 1]) / h
            aim = (1 + 1 / (2 * r)) * here - 1 / (2 * r) * before
        x = s.sigma / t.sigma * x - s.alpha * (np.exp(-h) - 1) * aim
        before = here
    torch.testing.assert_close(walk(GAUSSIAN, DPMpp2M(), levels, STARTS), x, rtol=0, atol=1e-12)


def test_adams_is_two_step_adams_bashforth_in_the_angle():
    """For any uneven angles: the weights integrate a straight line through two points over the next step exactly."""
    angles = [1.4, 1.1, 0.95]
    levels = [level(float(np.cos(a)), float(np.sin(a))) for a in angles]
    believed = iter([fixed(1.0, 0.0), fixed(3.0, 0.0)])
    walked = list(sample(lambda x, t, **_: next(believed)(x, t), Adams(), levels, STARTS, no_noise))
    at_middle = 3.0 + (3.0 - 1.0) * ((angles[2] - angles[1]) / 2) / (angles[1] - angles[0])
    expected = walked[0] + (levels[2].alpha - levels[1].alpha) * at_middle
    torch.testing.assert_close(walked[1], expected, rtol=0, atol=1e-12)


def test_dpmpp_at_equal_levels_stays_finite():
    """A step between equal levels has no length, so the next one cannot be extrapolated from it."""
    levels = [level(0.6, 0.8), level(0.8, 0.6), level(0.8, 0.6), level(0.9, 0.3), CLEAN]
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    assert bool(walk(GAUSSIAN, DPMpp2M(), levels, x).isfinite().all())


def test_adams_at_equal_levels_is_a_first_order_step():
    """Late starts of a schedule that is not clean at time 0 visit one level several times."""
    t, s = level(1.0, 0.004), level(1.0, 0.002)
    x = walk(GAUSSIAN, Adams(), [t, t, t, s], STARTS)
    torch.testing.assert_close(x, walk(GAUSSIAN, DDIM(), [t, s], STARTS))
    levels = grid(Karras(), 800, start=1e-12)
    assert bool(walk(GAUSSIAN, Adams(), levels, STARTS).isfinite().all())


ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))])
JUMPS = [(1, 0), (2, 1), (10, 9), (500, 499), (999, 998), (1000, 999), (700, 650)]


def ho(x_t, x, i, j):
    """Ho et al. 2020, eq. 6 and 7, for steps i and j of the table, from alpha-bars alone."""
    now, then = ALPHA_BAR[i], ALPHA_BAR[j]
    beta = 1 - now / then
    mean = then**0.5 * beta / (1 - now) * x + (now / then) ** 0.5 * (1 - then) / (1 - now) * x_t
    return mean, (1 - then) / (1 - now) * beta, beta


@pytest.mark.parametrize(("i", "j"), JUMPS)
@pytest.mark.parametrize("spec", ["ddim(eta=1)", "ancestral", "ancestral(variance='large')"])
def test_a_ddpm_step_is_ho_et_als(spec, i, j):
    x_t, x = 1.3, 0.4
    t, s = Chain().level(i), Chain().level(j)
    denoise = fixed(x, float((x_t - t.alpha * x) / t.sigma))
    start = torch.full((1, 1, 1, 1), x_t, dtype=torch.float64)
    quiet, loud = (
        walk(denoise, build(Sampler, spec), [t, s], start, noise) for noise in (torch.zeros_like, torch.ones_like)
    )
    mean, small, large = ho(x_t, x, i, j)
    assert float(quiet) == pytest.approx(mean, rel=1e-9)
    expected = (large if "large" in spec else small) if j > 0 else 0  # the last step ends clean
    assert float((loud - quiet) ** 2) == pytest.approx(expected, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("eta", [0.0, 0.3, 1.0])
@pytest.mark.parametrize(("i", "j"), JUMPS)
def test_a_ddim_step_is_song_et_als(i, j, eta):
    """Song et al. 2021, eq. 12 with sigma from eq. 16."""
    x, eps = 0.4, -0.7
    t, s = Chain().level(i), Chain().level(j)
    start = (t.alpha * x + t.sigma * eps).view(1, 1, 1, 1)
    now, then = ALPHA_BAR[i], ALPHA_BAR[j]
    sigma = eta * ((1 - then) / (1 - now)) ** 0.5 * (1 - now / then) ** 0.5
    quiet, loud = (
        walk(fixed(x, eps), DDIM(eta), [t, s], start, noise) for noise in (torch.zeros_like, torch.ones_like)
    )
    assert float(quiet) == pytest.approx(then**0.5 * x + max(0.0, 1 - then - sigma**2) ** 0.5 * eps, rel=1e-7, abs=1e-9)
    assert float(loud - quiet) == pytest.approx(sigma, rel=1e-7, abs=1e-12)


@every_schedule
def test_ddim_with_all_noise_is_ancestral_with_the_small_variance(schedule):
    levels = grid(schedule, 12)
    x = levels[0].norm * STARTS
    mine, other = (walk(BOTH["mixture"], s, levels, x, SeededNoise(range(6))) for s in (DDIM(1.0), Ancestral("small")))
    torch.testing.assert_close(mine, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("spec", ["ancestral", "ancestral(variance='large')", "ddim(eta=1)"])
def test_the_variance_of_a_whole_ddpm_run_obeys_its_recursion(spec):
    """On N(m, v) every step is affine: var <- gain^2 var + fresh, with Ho et al.'s coefficients."""
    betas = np.linspace(1e-3, 0.2, 100)
    bars = np.concatenate([[1.0], np.cumprod(1 - betas)])
    m, v = GAUSSIAN.mean, GAUSSIAN.variance
    mean, variance = 0.0, 1.0
    for i in range(100, 0, -1):
        now, then, beta = bars[i], bars[i - 1], betas[i - 1]
        pull = now**0.5 * v / (now * v + 1 - now)  # d x^ / d x_t
        of_x, of_x_t = then**0.5 * beta / (1 - now), (1 - beta) ** 0.5 * (1 - then) / (1 - now)
        mean = of_x * (m + pull * (mean - now**0.5 * m)) + of_x_t * mean
        fresh = beta if "large" in spec else (1 - then) / (1 - now) * beta
        variance = (of_x * pull + of_x_t) ** 2 * variance + (fresh if i > 1 else 0)
    got = moments(GAUSSIAN, build(Sampler, spec), grid(LinearBetas(100), 100), 0.0, 1.0)
    assert got == pytest.approx((mean, sqrt(variance)), rel=1e-9)


def test_the_two_variances_bracket_the_truth():
    """Exact for one image and for unit noise, the data in between lie between (Ho et al. 2020, section 3.2)."""
    for std, better in ((1e-3, "small"), (1.0, "large")):
        data = Mixture((1.0,), (0.0,), (std,))
        t, s = level(0.6, 0.8), level(0.8, 0.6)
        start = hypot(0.6 * std, 0.8)
        off = {}
        for variance in ("small", "large"):
            _, got = moments(data, Ancestral(variance), [t, s], 0.0, start)
            off[variance] = abs(got - hypot(0.8 * std, 0.6))
        assert min(off, key=off.get) == better
        assert off[better] < 1e-6


def test_the_posterior_that_ancestral_draws_from_is_the_chains():
    t, s = level(0.6, 0.8), level(0.8, 0.6)
    back = posterior(STARTS, GAUSSIAN(STARTS, t).x, t, s)
    torch.testing.assert_close(walk(GAUSSIAN, Ancestral(), [t, s], STARTS, torch.zeros_like), back.mean)


# --- refusals and seeds


@pytest.mark.parametrize("eta", [-0.1, 1.1])
def test_ddim_refuses_more_noise_than_there_is(eta):
    with pytest.raises(ValueError, match="between 0 and 1"):
        DDIM(eta)


def test_a_seed_decides_its_noise_in_any_batch():
    like = torch.empty(3, 2, 4, 4)
    three = SeededNoise([7, 8, 9])
    first, second = three(like), three(like)
    alone = SeededNoise([8])
    assert torch.equal(alone(like[:1])[0], first[1])
    assert torch.equal(alone(like[:1])[0], second[1])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, second)
    assert SeededNoise([1])(like[:1].double()).dtype == torch.float64
