from math import cos, pi

import numpy as np
import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.levels import Level
from noisekiln.samplers.base import grid
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.schedules.rectified import Rectified
from noisekiln.schedules.sigmoid import Sigmoid

TIMES = torch.linspace(0, 1, 201, dtype=torch.float64)
every_schedule = pytest.mark.parametrize("schedule", [find(Schedule, name)() for name in names("schedules")], ids=repr)


def at(schedule, time):
    return schedule(torch.tensor(time, dtype=torch.float64))


@every_schedule
def test_noise_rises_strictly_from_end_to_end(schedule):
    t = schedule(TIMES)
    assert bool((t.angle.diff() > 0).all())
    assert bool((t.nsr[:-1].diff() > 0).all())


@every_schedule
def test_coefficients_are_float64_finite_and_in_range(schedule):
    t = schedule(TIMES.float())
    assert t.alpha.dtype == t.sigma.dtype == torch.float64
    assert t.alpha.shape == t.sigma.shape == TIMES.shape
    assert bool(torch.isfinite(torch.stack(t)).all())
    assert bool(((t.alpha >= 0) & (t.alpha <= 1) & (t.sigma >= 0) & (t.norm > 0)).all())


@every_schedule
def test_time_zero_is_nearly_clean_and_time_one_nearly_noise(schedule):
    assert float(at(schedule, 0.0).nsr) < 0.05
    assert float(at(schedule, 1.0).nsr) > 14  # Stable Diffusion ends at 14.6


@every_schedule
def test_time_inverts(schedule):
    torch.testing.assert_close(schedule.time(schedule(TIMES)), TIMES, rtol=0, atol=1e-6)
    inner = TIMES[20:-20]
    torch.testing.assert_close(schedule.time(schedule(inner)), inner, rtol=0, atol=1e-9)
    scaled = Level(*(3 * part for part in schedule(inner)))
    torch.testing.assert_close(schedule.time(scaled), inner, rtol=0, atol=1e-9)


@every_schedule
def test_a_shape_of_times_gives_that_shape_of_levels_and_the_same_values(schedule):
    square = schedule(TIMES[:200].view(10, 20))
    assert square.alpha.shape == (10, 20)
    torch.testing.assert_close(square.sigma[3, 7], at(schedule, float(TIMES[67])).sigma, rtol=1e-14, atol=0)


@every_schedule
def test_a_schedule_is_a_frozen_value(schedule):
    assert schedule == type(schedule)()
    assert hash(schedule) == hash(type(schedule)())
    with pytest.raises(AttributeError):
        schedule.anything = 1


# --- the papers' values


def ddpm_alpha_bar(steps=1000, first=1e-4, last=0.02):
    """Independently, in numpy; the product itself and not a sum of logarithms."""
    return np.cumprod(1 - np.linspace(first * 1000 / steps, last * 1000 / steps, steps, dtype=np.float64))


def test_ddpms_table_has_its_values():
    alpha_bar = ddpm_alpha_bar()
    assert alpha_bar[0] == pytest.approx(0.9999, abs=1e-12)
    assert alpha_bar[-1] == pytest.approx(4.0358e-5, rel=1e-4)
    for step in (1, 2, 10, 500, 999, 1000):
        t = at(LinearBetas(), step / 1000)
        assert float(t.alpha**2) == pytest.approx(alpha_bar[step - 1], rel=1e-11)
        assert float(t.sigma**2) == pytest.approx(1 - alpha_bar[step - 1], rel=1e-11)
    assert float(at(LinearBetas(), 0.0).sigma) == 0


def test_a_shorter_table_ends_as_noisy():
    alpha_bar = ddpm_alpha_bar(100)
    schedule = LinearBetas(100)
    assert float(schedule.betas()[0]) == pytest.approx(1e-3)
    assert float(schedule.betas()[-1]) == pytest.approx(0.2)
    for step in (1, 37, 100):
        assert float(at(schedule, step / 100).alpha ** 2) == pytest.approx(alpha_bar[step - 1], rel=1e-12)
    assert alpha_bar[-1] < 5e-5


def test_between_two_steps_log_alpha_bar_is_straight():
    low, middle, high = (float(at(LinearBetas(), time).alpha.log()) for time in (0.5, 0.5003, 0.501))
    assert middle == pytest.approx(low + 0.3 * (high - low), rel=1e-9)


@pytest.mark.parametrize("steps", [0, -5, 1, 20])
def test_a_table_too_short_for_its_betas_is_refused(steps):
    with pytest.raises(ValueError, match="A beta is a variance between 0 and 1"):
        LinearBetas(steps)
    LinearBetas(21)
    LinearBetas(10, first=0.001, last=0.001)  # betas may also be all alike


def test_cosine_has_the_printed_formula():
    f = lambda time: cos((time + 0.008) / 1.008 * pi / 2) ** 2  # noqa: E731
    for time in (0.0, 0.001, 0.25, 0.5, 0.9, 0.999):
        t = at(Cosine(), time)
        assert float(t.alpha**2) == pytest.approx(f(time) / f(0), rel=1e-10)
        assert float(t.sigma**2) == pytest.approx(1 - f(time) / f(0), rel=1e-10, abs=1e-15)


@pytest.mark.parametrize("offset", [0.0, 0.008, 0.1])
def test_cosine_is_exactly_clean_and_exactly_noise_at_its_ends(offset):
    start, end = at(Cosine(offset), 0.0), at(Cosine(offset), 1.0)
    assert (float(start.alpha), float(start.sigma)) == (1, 0)
    assert float(end.alpha) == 0
    assert float(end.sigma) == pytest.approx(1, abs=1e-14)
    assert torch.allclose(Cosine(offset)(TIMES).norm, torch.ones(201, dtype=torch.float64), atol=1e-14)


def test_karras_grid_is_the_papers():
    """Karras et al. 2022, eq. 5, for their own numbers and 18 steps."""
    n, low, high, rho = 18, 0.002, 80.0, 7
    i = np.arange(n)
    printed = (high ** (1 / rho) + i / (n - 1) * (low ** (1 / rho) - high ** (1 / rho))) ** rho
    levels = grid(Karras(low, high, rho), n)
    np.testing.assert_allclose([float(t.sigma) for t in levels], [*printed, 0], rtol=1e-12)
    assert {float(t.alpha) for t in levels} == {1.0}


def test_rectified_is_straight_and_its_shift_is_stable_diffusion_3s():
    assert [float(c) for c in at(Rectified(), 0.3)] == pytest.approx([0.7, 0.3])
    for time in (0.0, 0.2, 0.7, 1.0):
        u = 3 * time / (1 + 2 * time)
        assert [float(c) for c in at(Rectified(3.0), time)] == pytest.approx([1 - u, u])
        # as in the paper: a shift multiplies the noise-to-signal ratio by itself
        if 0 < time < 1:
            assert float(at(Rectified(3.0), time).nsr) == pytest.approx(3 * float(at(Rectified(), time).nsr))


@pytest.mark.parametrize("shift", [0.05, 0.1, 0.37, 0.9, 1.0, 1.7, 3.0])
def test_a_shifted_straight_path_ends_in_exactly_pure_noise(shift):
    """With an alpha of 1e-16, an eps-prediction would start where it does not determine the image."""
    for value in torch.linspace(shift, 1.1 * shift, 50, dtype=torch.float64):
        start, end = at(Rectified(float(value)), 0.0), at(Rectified(float(value)), 1.0)
        assert (float(start.alpha), float(start.sigma)) == (1, 0)
        assert float(end.alpha) == 0
        assert float(end.sigma) == pytest.approx(1, abs=1e-14)


@every_schedule
def test_the_time_of_a_level_in_single_precision_is_double_precision_on_the_cpu(schedule):
    t = Level(*(c.float() for c in at(schedule, 0.4)))
    assert (schedule.time(t).dtype, schedule.time(t).device.type) == (torch.float64, "cpu")
    assert float(schedule.time(t)) == pytest.approx(0.4, abs=1e-4)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: Cosine(-0.1), "turn back"),
        (lambda: Rectified(0.0), "backwards"),
        (lambda: Sigmoid(1.0, 1.0), "would not fall"),
        (lambda: Sigmoid(tau=0.0), "would not fall"),
        (lambda: Karras(0.0), "positive sigma_min"),
        (lambda: Karras(2.0, 1.0), "larger sigma_max"),
        (lambda: Karras(rho=0.0), "positive rho"),
    ],
)
def test_impossible_schedules_are_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        wrong()


@pytest.mark.parametrize("settings", [(), (0.0, 3.0, 0.7), (-3.0, 3.0, 0.3)])
def test_sigmoid_is_the_difference_of_two_logistic_functions(settings):
    schedule = Sigmoid(*settings)
    start, end = (torch.tensor(each / schedule.tau, dtype=torch.float64) for each in (schedule.start, schedule.end))
    left = end.sigmoid() - (start + (end - start) * TIMES).sigmoid()
    t = schedule(TIMES)
    torch.testing.assert_close(t.alpha**2, left / (end.sigmoid() - start.sigmoid()), rtol=0, atol=1e-14)
    torch.testing.assert_close(t.norm, torch.ones_like(TIMES), rtol=0, atol=1e-14)
    assert (float(t.alpha[-1]), float(t.sigma[0])) == (0, 0)


# --- grids


@every_schedule
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_a_grid_has_its_steps_falls_and_ends_clean(schedule, steps):
    levels = grid(schedule, steps)
    angles = torch.stack([t.angle for t in levels])
    assert len(levels) == steps + 1
    assert bool((angles.diff() < 0).all())
    assert (float(levels[-1].alpha), float(levels[-1].sigma)) == (1, 0)
    assert float(levels[0].nsr) == float(at(schedule, 1.0).nsr)


def test_a_grid_can_start_later():
    levels = grid(Rectified(), 4, start=0.8)
    assert [float(t.sigma) for t in levels] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0])


@pytest.mark.parametrize(("steps", "start"), [(0, 1.0), (-3, 1.0), (5, 0.0), (5, 1.2)])
def test_a_grid_that_leads_nowhere_is_refused(steps, start):
    with pytest.raises(ValueError, match="Give"):
        grid(Rectified(), steps, start)
