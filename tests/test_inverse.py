"""Inverse methods against posteriors that are known exactly."""

from types import SimpleNamespace

import pytest
import torch

from noisekiln.backbones.simple_unet import SimpleUnet
from noisekiln.components.registry import names
from noisekiln.components.spec import build
from noisekiln.conditions import NOTHING
from noisekiln.denoisers import Bound, Denoiser
from noisekiln.estimate import Estimate
from noisekiln.inverse.base import CHECK_EVERY, Inverse, clipped, conjugate_gradients
from noisekiln.inverse.diffpir import DiffPIR
from noisekiln.inverse.moment_matching import MomentMatching
from noisekiln.inverse.pigdm import PiGDM
from noisekiln.inverse.replacement import Replacement
from noisekiln.levels import CLEAN, level
from noisekiln.operators.base import Observation, Operator
from noisekiln.operators.mask import Mask
from noisekiln.posterior import posterior
from noisekiln.samplers.ancestral import Ancestral
from noisekiln.samplers.base import Sampler, SeededNoise, grid
from noisekiln.samplers.ddim import DDIM
from noisekiln.samplers.heun import Heun
from noisekiln.samplers.resample import Resample
from noisekiln.schedules.cosine import Cosine
from noisekiln.schedules.karras import Karras
from oracles import Gaussian, walk

SHAPE = (2, 2, 4)
PRIOR = Gaussian.smooth(SHAPE)
WHITE = Gaussian(torch.zeros(16, dtype=torch.float64), torch.eye(16, dtype=torch.float64), SHAPE)
OPERATORS = ["mask(box=(1, 0, 3, 2))", "downsample(factor=2)", "blur(sigma=0.8)", "grayscale", "noise"]
LEVELS = [level(0.99, 0.1), level(0.8, 0.6), level(0.1, 0.995), level(1.0, 5.0)]
every = pytest.mark.parametrize("name", names("inverse"))


def matrix_of(operator, shape=SHAPE):
    """A as a matrix, column by column."""
    size = shape[0] * shape[1] * shape[2]
    columns = operator(torch.eye(size, dtype=torch.float64).view(size, *shape))
    return columns.flatten(1).T


def problem(spec, std, prior=PRIOR, seed=1):
    """An observation of a draw of the prior, and the exact posterior."""
    generator = torch.Generator().manual_seed(seed)
    operator = build(Operator, spec)
    root = torch.linalg.cholesky(prior.covariance)
    x = prior.mean + root @ torch.randn(len(prior.mean), generator=generator, dtype=torch.float64)
    clean = operator(x.view(1, *prior.shape))
    y = clean + std * torch.randn(clean.shape, generator=generator, dtype=torch.float64)
    return Observation(y, operator, std), prior.conditioned_on(matrix_of(operator), y.flatten(), std), x


def noisy(prior, t, count=5):
    generator = torch.Generator().manual_seed(2)
    return t.norm * torch.randn(count, *prior.shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("t", LEVELS, ids=lambda t: f"{float(t.nsr):.2g}")
@pytest.mark.parametrize("spec", OPERATORS)
def test_moment_matching_is_exact_for_every_gaussian(spec, t):
    """It equals the denoiser of the posterior, up to rounding, once conjugate gradients have converged."""
    seen, posterior, _ = problem(spec, std=0.3)
    x_t = noisy(PRIOR, t)
    got = MomentMatching(iterations=40)(PRIOR, seen)(x_t, t)
    expected = posterior(x_t, t)
    torch.testing.assert_close(got.x, expected.x, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(t.alpha * got.x + t.sigma * got.eps, x_t)


@pytest.mark.parametrize("spec", OPERATORS)
def test_pseudo_inverse_guidance_is_exact_for_white_images(spec):
    seen, posterior, _ = problem(spec, std=0.3, prior=WHITE)
    for t in LEVELS:
        x_t = noisy(WHITE, t)
        torch.testing.assert_close(PiGDM()(WHITE, seen)(x_t, t).x, posterior(x_t, t).x, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("spec", OPERATORS)
def test_diffpir_is_exact_for_a_flat_prior(spec):
    """With a flat prior the covariance of x is nsr^2, as DiffPIR assumes."""
    flat = Gaussian(torch.zeros(16, dtype=torch.float64), 1e6 * torch.eye(16, dtype=torch.float64), SHAPE)
    seen, _, _ = problem(spec, std=0.3)
    operator = build(Operator, spec)
    posterior = flat.conditioned_on(matrix_of(operator), seen.y.flatten(), 0.3)
    for t in LEVELS[:3]:
        x_t = noisy(flat, t)
        torch.testing.assert_close(DiffPIR()(flat, seen)(x_t, t).x, posterior(x_t, t).x, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("spec", OPERATORS)
def test_replacement_is_the_nearest_image_to_the_estimate_that_fits_the_observation(spec):
    seen, _, _ = problem(spec, std=0.0)
    matrix = matrix_of(seen.operator)
    for t in LEVELS:
        x_t = noisy(PRIOR, t)
        before = PRIOR(x_t, t).x.flatten(1)
        expected = before + (seen.y.flatten() - before @ matrix.T) @ torch.linalg.pinv(matrix).T
        got = Replacement()(PRIOR, seen)(x_t, t)
        torch.testing.assert_close(got.x.flatten(1), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("std", [0.05, 0.4, 5.0])
@pytest.mark.parametrize("spec", ["mask(box=(1, 0, 3, 2))", "downsample(factor=2)", "grayscale"])
def test_a_noisy_observation_brings_no_more_noise_into_a_step_than_the_step_has(spec, std):
    """DDNM+: about its mean x_s varies by sigma_s^2 (1 - r^2) in every direction, seen or not, whatever y's noise."""
    count, t, s = 20_000, level(0.6, 0.8), level(0.8, 0.6)
    operator, method = build(Operator, spec), Replacement()
    generator = torch.Generator().manual_seed(4)
    clean = operator(PRIOR.mean.view(1, *SHAPE))
    y = clean + std * torch.randn(count, *clean.shape[1:], generator=generator, dtype=torch.float64)
    seen = Observation(y, operator, std)
    x_t = noisy(PRIOR, t, 1).repeat(count, 1, 1, 1)
    sampler = method.adapt_sampler(Ancestral(), seen)
    x_s, _ = sampler.step(
        method(PRIOR, seen), x_t, t, s, None, lambda like: torch.randn(like.shape, generator=generator).to(like)
    )
    spread = x_s.flatten(1).T.cov()
    expected = float(posterior(x_t, x_t, t, s).small) * torch.eye(16, dtype=torch.float64)
    torch.testing.assert_close(spread, expected, atol=0.05 * float(expected[0, 0]), rtol=0)


def test_a_noisy_observation_has_no_effect_in_a_step_without_noise():
    seen, _, _ = problem("noise", std=0.5)
    x_t = noisy(PRIOR, level(1.0, 0.1))
    got = Replacement()(PRIOR, seen)(x_t, level(1.0, 0.1), to=CLEAN).x
    torch.testing.assert_close(got, PRIOR(x_t, level(1.0, 0.1)).x)


def test_a_clean_observation_leaves_the_sampler_as_it_is():
    seen, _, _ = problem("noise", std=0.0)
    sampler = Ancestral()
    assert Replacement().adapt_sampler(sampler, seen) is sampler


@pytest.mark.slow
@pytest.mark.parametrize("spec", OPERATORS)
def test_samples_with_moment_matching_have_the_posterior_mean_and_covariance(spec):
    """Everything is affine in the starting noise, so both moments of the samples are known without drawing any."""
    seen, posterior, _ = problem(spec, std=0.3)
    denoise, off = MomentMatching(iterations=16)(PRIOR, seen), []
    for steps in (15, 60):
        levels = grid(Karras(), steps)
        starts = torch.cat([torch.zeros(1, 16), torch.eye(16)]).double().view(17, *SHAPE)
        mean, *ends = walk(denoise, Heun(), levels, levels[0].norm * starts).flatten(1)
        root = torch.stack(ends) - mean
        torch.testing.assert_close(mean, posterior.mean, atol=0.02, rtol=0)  # the start at nsr 80 forgets it
        off.append(float((root.T @ root - posterior.covariance).abs().max()))
    assert off[1] < 0.01
    assert off[1] < off[0] / 8  # Heun's second order: with more steps nothing would be left


@pytest.mark.parametrize("spec", OPERATORS)
@every
def test_results_agree_with_the_observation(name, spec):
    """With the exact prior, results are much nearer to the observation than images drawn without it."""
    seen, _, _ = problem(spec, std=0.02)
    x = noisy(PRIOR, level(1.0, 80.0), 16)
    levels = grid(Karras(), 60)

    def misfit(denoise):
        noise = SeededNoise(range(16))
        last = walk(denoise, DDIM(1.0), levels, x, noise)
        return float((seen.operator(last) - seen.y).square().mean().sqrt())

    assert misfit(build(Inverse, name)(PRIOR, seen)) < 0.35 * misfit(PRIOR)


@every
def test_every_method_starts_from_pure_noise_and_keeps_the_plane(name):
    seen, _, _ = problem("downsample(factor=2)", std=0.1)
    t = Cosine(offset=0)(torch.ones((), dtype=torch.float64))
    s = Cosine(offset=0)(torch.tensor(0.9, dtype=torch.float64))
    x_t = noisy(PRIOR, t)
    got = build(Inverse, name)(PRIOR, seen)(x_t, t, to=s)
    assert bool(got.x.isfinite().all())
    torch.testing.assert_close(t.alpha * got.x + t.sigma * got.eps, x_t)


@every
def test_every_method_treats_images_on_their_own(name):
    seen, _, _ = problem("blur(sigma=0.8)", std=0.1)
    method, t, s = build(Inverse, name)(PRIOR, seen), level(0.8, 0.6), level(0.9, 0.43)
    x_t = noisy(PRIOR, t)
    torch.testing.assert_close(method(x_t, t, to=s).x[2:3], method(x_t[2:3], t, to=s).x, atol=1e-5, rtol=0)


def test_a_step_with_dps_ends_lower_by_its_gradient():
    """Chung et al.'s correction of x_s, reached through the estimate."""
    seen, _, _ = problem("blur(sigma=0.8)", std=0.1)
    t, s = level(0.8, 0.6), level(0.9, 0.43)
    x_t = noisy(PRIOR, t).requires_grad_()
    before = PRIOR(x_t, t)
    misfit = (seen.y - seen.operator(before.x)).flatten(1).norm(dim=1).sum()
    (gradient,) = torch.autograd.grad(misfit, x_t)
    got = build(Inverse, "dps(scale=0.7)")(PRIOR, seen)(x_t.detach(), t, to=s).at(s)
    torch.testing.assert_close(got, (before.at(s) - 0.7 * gradient).detach())


def test_resampling_brings_replacement_nearer_to_the_posterior():
    """Half an image is known; with several passes the other half agrees with it better than with one."""
    known = torch.zeros(2, 4, dtype=torch.float64)
    known[:, :2] = 1
    operator = Mask(known)
    seen = Observation(operator(PRIOR.mean.view(1, *SHAPE) + 1.5), operator, 0.0)
    posterior = PRIOR.conditioned_on(matrix_of(operator), seen.y.flatten(), 1e-3)
    levels = grid(Cosine(), 30)
    off = {}
    for times in (1, 8):
        x = levels[0].norm * noisy(PRIOR, level(0.6, 0.8), 400)
        sampler = Resample(Ancestral(), times)
        got = walk(Replacement()(PRIOR, seen), sampler, levels, x, SeededNoise(range(400))).flatten(1)
        off[times] = float((got.mean(0) - posterior.mean).square().mean().sqrt())
    assert off[8] < 0.6 * off[1]


def test_resampling_once_is_the_sampler_itself():
    levels, x = grid(Cosine(), 5), noisy(PRIOR, level(0.6, 0.8))
    same = [walk(PRIOR, s, levels, x, SeededNoise(range(5))) for s in (Resample(Ancestral(), 1), Ancestral())]
    torch.testing.assert_close(*same)


def test_conjugate_gradients_end_after_as_many_steps_as_there_are_eigenvalues():
    b = torch.randn(3, 6, dtype=torch.float64)
    scale = torch.tensor([1.0, 1, 1, 2, 2, 2], dtype=torch.float64)
    torch.testing.assert_close(conjugate_gradients(lambda v: scale * v, b, 2, 0)[0], b / scale)


def test_conjugate_gradients_stop_where_a_map_is_not_positive():
    b = torch.randn(3, 6)
    assert bool(conjugate_gradients(lambda v: -v, b, 5)[0].eq(0).all())


def test_a_converged_image_is_not_changed_by_the_rest_of_the_batch():
    scale = torch.tensor([[1.0, -0.1], [1.0, 3.0]], dtype=torch.float64)
    alone = conjugate_gradients(lambda v: scale[:1] * v, torch.ones(1, 2, dtype=torch.float64), 5)[0]
    together = conjugate_gradients(lambda v: scale * v, torch.ones(2, 2, dtype=torch.float64), 5)[0]
    torch.testing.assert_close(together[:1], alone)
    torch.testing.assert_close(together[1], 1 / scale[1])


def test_testing_for_convergence_less_often_changes_nothing():
    """As on a GPU: iterations after the last image has converged change nothing."""
    b = torch.randn(3, 6, dtype=torch.float64)
    scale = torch.tensor([1.0, 1, 1, 2, 2, 2], dtype=torch.float64)
    often = conjugate_gradients(lambda v: scale * v, b, 30)
    calls = []

    class Elsewhere(torch.Tensor):
        device = SimpleNamespace(type="cuda")

    rarely = conjugate_gradients(lambda v: calls.append(v) or scale * v, b.as_subclass(Elsewhere), 30)
    assert len(calls) == CHECK_EVERY + 1
    for one, other in zip(often, rarely, strict=True):
        assert torch.equal(one, other.as_subclass(torch.Tensor))


@pytest.mark.parametrize("spec", OPERATORS)
def test_the_residual_of_moment_matching_is_corrected(spec):
    """Without iterations it is exact for white images; with few, nearer with the residual correction than without."""
    seen, posterior, _ = problem(spec, std=0.3, prior=WHITE)
    t = level(0.8, 0.6)
    x_t = noisy(WHITE, t)
    method = MomentMatching(iterations=0, residual_iterations=30)
    torch.testing.assert_close(method(WHITE, seen)(x_t, t).x, posterior(x_t, t).x, atol=1e-5, rtol=1e-5)
    seen, posterior, _ = problem("blur(sigma=0.8)", std=0.01)
    x_t, expected = noisy(PRIOR, t), posterior(noisy(PRIOR, t), t).x
    off = [
        float((MomentMatching(residual_iterations=rest)(PRIOR, seen)(x_t, t).x - expected).norm()) for rest in (0, 10)
    ]
    assert off[1] < 0.9 * off[0]


def test_diverging_results_are_clipped_to_black_and_white():
    def away(x_t, t, *, to=None):
        return Estimate.of_x(x_t, x_t * 1e6, t)

    t = level(0.8, 0.6)
    got = clipped(away, (torch.tensor(-1.0), torch.tensor(2.0)))(noisy(PRIOR, t), t)
    assert (float(got.x.min()), float(got.x.max())) == (-1, 2)
    torch.testing.assert_close(t.alpha * got.x + t.sigma * got.eps, noisy(PRIOR, t))


@every
def test_conditioned_and_clipped_models_say_what_they_are(name):
    seen = problem("grayscale", 0.1)[0]
    inverse = build(Inverse, name)
    limited = clipped(inverse(Bound(Denoiser(SimpleUnet(2)), NOTHING), seen), (torch.zeros(()), torch.ones(())))
    assert repr(limited) == f"Clipped(Conditioned({inverse!r}, y={tuple(seen.y.shape)}, Bound(SimpleUnet, Cond())))"


def test_a_repeated_step_gets_the_carry_of_the_step_before():
    carried = []

    class Remembers(Ancestral):
        def step(self, denoise, x_t, t, s, carry, noise):
            carried.append(carry)
            return super().step(denoise, x_t, t, s, None, noise)[0], len(carried)

    walk(PRIOR, Resample(Remembers(), 2), grid(Cosine(), 3), noisy(PRIOR, level(0.6, 0.8)), torch.zeros_like)
    assert carried == [None, None, 2, 2, 4]


def test_a_sampler_of_its_own_is_built_from_a_spec():
    assert build(Sampler, "resample(sampler=ddim(eta=1), times=3)") == Resample(DDIM(1.0), 3)
    with pytest.raises(ValueError, match="at least once"):
        Resample(times=0)


def test_no_method_is_called_at_the_clean_level():
    """Grids end at the clean level; the last step calls the model at the level before it."""
    seen, _, _ = problem("noise", std=0.1)
    levels = [level(0.6, 0.8), CLEAN]
    assert bool(walk(MomentMatching()(PRIOR, seen), DDIM(), levels, noisy(PRIOR, levels[0])).isfinite().all())
