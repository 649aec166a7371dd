import numpy as np
import pytest
import torch

from noisekiln.levels import CLEAN, level
from noisekiln.posterior import posterior
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.linear_betas import LinearBetas
from noisekiln.textbook import Chain

BETAS = np.linspace(1e-4, 0.02, 1000)
ALPHA_BAR = np.concatenate([[1.0], np.cumprod(1 - BETAS)])  # of step 0, 1, ..., 1000
ZERO, ONE = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
STEPS = [1, 2, 10, 500, 999, 1000]


@pytest.mark.parametrize("i", STEPS)
def test_betas_and_alpha_bars_are_the_tables(i):
    assert float(Chain().alpha_bar(i)) == pytest.approx(ALPHA_BAR[i], rel=1e-10)
    assert float(Chain().beta(i)) == pytest.approx(BETAS[i - 1], rel=1e-8)


@pytest.mark.parametrize("i", STEPS)
def test_a_step_is_ho_et_als_equation_2(i):
    assert float(Chain().q_step(ONE, i, ZERO)) == pytest.approx((1 - BETAS[i - 1]) ** 0.5, rel=1e-10)
    assert float(Chain().q_step(ZERO, i, ONE)) == pytest.approx(BETAS[i - 1] ** 0.5, rel=1e-7)


@pytest.mark.parametrize(
    "chain", [Chain(), Chain(LinearBetas(60), 60), Chain(Cosine(), 40)], ids=["ddpm", "short", "cosine"]
)
def test_the_chain_step_by_step_is_distributed_as_its_closed_form(chain):
    """The mean's factor, and the sum of the squares of what is left of every step's noise."""
    signal, variance = ONE, ZERO
    for i in range(1, min(chain.steps, 60) + 1):
        kept = chain.q_step(ONE, i, ZERO)
        signal, variance = kept * signal, kept**2 * variance + chain.q_step(ZERO, i, ONE) ** 2
        torch.testing.assert_close(signal, chain.q_sample(ONE, i, ZERO), rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(variance, chain.q_sample(ZERO, i, ONE) ** 2, rtol=1e-9, atol=1e-12)


def bayes(x_0, x_i, i):
    """N(x_{i-1}; sqrt(ab) x_0, 1 - ab) times N(x_i; sqrt(1 - beta) x_{i-1}, beta), normalised: precisions add."""
    prior = 1 / (1 - ALPHA_BAR[i - 1])
    seen = (1 - BETAS[i - 1]) / BETAS[i - 1]
    pull = prior * ALPHA_BAR[i - 1] ** 0.5 * x_0 + (1 - BETAS[i - 1]) ** 0.5 / BETAS[i - 1] * x_i
    return pull / (prior + seen), 1 / (prior + seen)


@pytest.mark.parametrize("i", [2, 10, 500, 999, 1000])
@pytest.mark.parametrize(("x_0", "x_i"), [(0.0, 1.0), (1.0, 0.0), (-1.3, 0.4)])
def test_the_posterior_is_bayes_rule(i, x_0, x_i):
    mean, variance = bayes(x_0, x_i, i)
    back = Chain().q_posterior(x_0 * ONE, x_i * ONE, i)
    assert float(back.mean) == pytest.approx(mean, rel=1e-8, abs=1e-10)
    assert float(back.small) == pytest.approx(variance, rel=1e-7)


@pytest.mark.parametrize("i", [2, 10, 500, 999, 1000])
def test_both_variances_are_the_papers(i):
    """Ho et al. 2020, section 3.2: sigma^2 = beta, or beta tilde = (1 - ab_{i-1})/(1 - ab_i) beta."""
    back = Chain().q_posterior(ONE, ONE, i)
    assert float(back.large) == pytest.approx(BETAS[i - 1], rel=1e-8)
    assert float(back.small) == pytest.approx((1 - ALPHA_BAR[i - 1]) / (1 - ALPHA_BAR[i]) * BETAS[i - 1], rel=1e-7)


def test_the_first_step_ends_clean():
    back = Chain().q_posterior(0.3 * ONE, 0.9 * ONE, 1)
    assert [float(part) for part in back] == pytest.approx([0.3, 0, 0])


def test_the_posterior_holds_at_pure_noise_and_for_any_scale():
    x_t, x = torch.tensor([0.8], dtype=torch.float64), torch.tensor([-0.5], dtype=torch.float64)
    from_noise = posterior(x_t, x, level(0.0, 1.0), level(0.6, 0.8))
    assert [float(part) for part in from_noise] == pytest.approx([-0.3, 0.64, 1.0])  # x_t does not depend on x_s
    on_circle = posterior(x_t, x, level(0.6, 0.8), level(0.8, 0.6))
    scaled = posterior(4 * x_t, x, level(2.4, 3.2), level(2.4, 1.8))  # the same ratios, times 4 and times 3
    assert float(scaled.mean) == pytest.approx(3 * float(on_circle.mean))
    assert float(scaled.small) == pytest.approx(9 * float(on_circle.small))
    assert float(scaled.large) == pytest.approx(9 * float(on_circle.large))
    clean = posterior(x_t, x, level(0.6, 0.8), CLEAN)
    assert [float(part) for part in clean] == pytest.approx([-0.5, 0, 0])


@pytest.mark.parametrize("i", [-1, 1001])
def test_a_step_that_is_not_on_the_chain_is_refused(i):
    with pytest.raises(ValueError, match=r"from 0 \(clean\) to 1000"):
        Chain().level(i)
