import pytest
import torch

from noisekiln.estimate import Estimate
from noisekiln.levels import CLEAN, PURE_NOISE, Level, level, renoise
from oracles import BOTH, GAUSSIAN, MIXTURE

LEVELS = [level(1.0, 0.0), level(0.9, 0.2), level(0.6, 0.8), level(1.0, 37.0), level(0.02, 0.999), level(0.0, 1.0)]


def test_a_level_knows_its_norm_ratio_and_angle():
    t = level(0.6, 0.8)
    assert float(t.norm) == pytest.approx(1)
    assert float(t.nsr) == pytest.approx(4 / 3)
    assert float(t.angle) == pytest.approx(torch.tensor(4 / 3).atan().item())


def test_both_ends_are_finite_where_they_can_be():
    assert float(CLEAN.angle) == 0
    assert float(CLEAN.nsr) == 0
    assert float(PURE_NOISE.angle) == pytest.approx(torch.pi / 2)
    assert float(PURE_NOISE.nsr) == float("inf")
    assert float(PURE_NOISE.norm) == 1


def test_a_level_while_training_broadcasts_against_images():
    t = Level(torch.rand(5, 1, 1, 1), torch.rand(5, 1, 1, 1))
    assert renoise(torch.ones(5, 3, 4, 6), CLEAN, t, torch.ones(5, 3, 4, 6)).shape == (5, 3, 4, 6)


def test_renoise_from_clean_is_the_closed_form():
    x, noise = torch.randn(2, 3, 1, 1, 1, dtype=torch.float64)
    for t in LEVELS:
        torch.testing.assert_close(renoise(x, CLEAN, t, noise), t.alpha * x + t.sigma * noise, rtol=0, atol=1e-12)


@pytest.mark.parametrize("start", LEVELS[:-1], ids=str)
def test_renoise_in_two_steps_is_distributed_as_in_one(start):
    """Coefficients of x, and variances: what is left of the first noise, plus the second, is the direct one's."""
    zero, one = torch.zeros(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)
    rising = [u for u in sorted(LEVELS, key=lambda u: float(u.angle)) if u.angle > start.angle]
    for i, middle in enumerate(rising):
        for end in rising[i + 1 :]:
            kept = renoise(renoise(one, start, middle, zero), middle, end, zero)
            torch.testing.assert_close(kept, renoise(one, start, end, zero), rtol=1e-12, atol=1e-12)
            first = renoise(renoise(zero, start, middle, one), middle, end, zero)
            second = renoise(zero, middle, end, one)
            direct = renoise(zero, start, end, one)
            torch.testing.assert_close(first**2 + second**2, direct**2, rtol=1e-10, atol=1e-12)


def test_renoise_to_the_same_level_changes_nothing():
    x, noise = torch.randn(2, 3, dtype=torch.float64)
    for t in LEVELS:
        if t.alpha > 0:
            torch.testing.assert_close(renoise(x, t, t, noise), x, rtol=0, atol=1e-7)


def test_from_pure_noise_only_pure_noise_can_be_reached():
    x, noise = torch.randn(2, 3, dtype=torch.float64)
    assert torch.equal(renoise(x, PURE_NOISE, PURE_NOISE, noise), noise)
    with pytest.raises(ValueError, match="cannot lower the ratio"):
        renoise(x, PURE_NOISE, level(0.6, 0.8), noise)


def test_renoise_refuses_to_take_noise_away():
    with pytest.raises(ValueError, match=r"from noise-to-signal ratio 1.333 to 0.2222.*Exchange"):
        renoise(torch.zeros(1), level(0.6, 0.8), level(0.9, 0.2), torch.zeros(1))


def test_a_ratio_that_is_lower_by_a_hair_is_rounding_and_by_a_hundredth_is_not():
    x = torch.randn(1, 1, 2, 2, dtype=torch.float64)
    renoise(x, level(1.0, 1.0), level(1.0, 1 - 1e-9), x)
    with pytest.raises(ValueError, match="cannot lower"):
        renoise(x, level(1.0, 1.0), level(1.0, 0.99), x)


def test_rounding_never_takes_the_root_of_a_negative_variance():
    """In single precision the variance of fresh noise comes out below zero for many equal levels."""
    sigma = torch.linspace(0.01, 3, 500)
    at, to = Level(torch.full_like(sigma, 0.7), sigma), Level(torch.full_like(sigma, 0.7), sigma * (1 - 1e-7))
    assert bool((to.sigma**2 - (to.alpha / at.alpha * at.sigma) ** 2 < 0).any())
    assert bool(renoise(torch.ones(500), at, to, torch.ones(500)).isfinite().all())


@pytest.mark.parametrize("data", BOTH.values(), ids=BOTH)
def test_the_oracles_estimates_are_consistent_and_their_score_is_the_densitys(data):
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    for t in LEVELS[1:]:
        x, eps = data(x_t, t)
        torch.testing.assert_close(t.alpha * x + t.sigma * eps, x_t, rtol=0, atol=1e-12)
        (density,) = torch.autograd.grad(data.cdf(x_t, t).sum(), x_t, create_graph=True)
        (score,) = torch.autograd.grad(density.log().sum(), x_t)
        torch.testing.assert_close(-eps / t.sigma, score, rtol=1e-6, atol=1e-9)


def test_the_oracles_flow_is_the_closed_form_on_a_gaussian():
    x_t = torch.linspace(-2, 2, 9, dtype=torch.float64)
    for t in LEVELS[1:]:
        for s in LEVELS[:2]:
            ratio = torch.hypot(s.alpha * 0.7, s.sigma) / torch.hypot(t.alpha * 0.7, t.sigma)
            expected = s.alpha * 1.3 + ratio * (x_t - t.alpha * 1.3)
            torch.testing.assert_close(GAUSSIAN.flow(x_t, t, s), expected, rtol=0, atol=1e-11)


def test_an_estimate_moves_to_any_level_without_a_division():
    estimate = Estimate(torch.tensor(2.0), torch.tensor(-1.0))
    assert float(estimate.at(CLEAN)) == 2
    assert float(estimate.at(PURE_NOISE)) == -1
    assert float(estimate.at(level(0.6, 0.8))) == pytest.approx(0.4)


@pytest.mark.parametrize("w", [-1.0, 0.0, 0.3, 1.0, 4.0])
def test_blends_of_estimates_stay_on_the_plane(w):
    x_t = torch.linspace(-2, 2, 5, dtype=torch.float64)
    for t in LEVELS:
        blend = GAUSSIAN(x_t, t).toward(MIXTURE(x_t, t), w)
        torch.testing.assert_close(blend.at(t), x_t, rtol=0, atol=1e-11)
    assert torch.equal(GAUSSIAN(x_t, t).toward(MIXTURE(x_t, t), 0).x, GAUSSIAN(x_t, t).x)
    torch.testing.assert_close(GAUSSIAN(x_t, t).toward(MIXTURE(x_t, t), 1).x, MIXTURE(x_t, t).x)
