import pytest
import torch
from torch import nn

from noisekiln.backbones.base import Backbone
from noisekiln.components.registry import find, names
from noisekiln.conditions import NOTHING
from noisekiln.denoisers import Denoiser
from noisekiln.draws.base import Draw
from noisekiln.draws.log_normal import LogNormal
from noisekiln.levels import Level
from noisekiln.loss_weights.base import LossWeight
from noisekiln.loss_weights.min_snr import MinSnr
from noisekiln.loss_weights.uncertainty import Uncertainty
from noisekiln.loss_weights.unit import Unit
from noisekiln.objectives.base import Objective
from noisekiln.objectives.denoising import Denoising
from noisekiln.predictions import PREDICTIONS, V

ANGLES = torch.tensor([0.01, 0.2, 0.6, 1.0, 1.5], dtype=torch.float64)
LEVELS = Level(ANGLES.cos(), ANGLES.sin())
every_prediction = pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)


@every_prediction
@pytest.mark.parametrize("name", names("loss_weights"))
def test_a_weight_is_finite_and_rises_with_the_error(name, prediction):
    weight = find(LossWeight, name)().double()
    error = torch.rand(5, dtype=torch.float64, requires_grad=True)
    weighed = weight(error, LEVELS, prediction)
    assert weighed.shape == (5,)
    assert bool(weighed.isfinite().all())
    (slope,) = torch.autograd.grad(weighed.sum(), error)
    assert bool((slope > 0).all())


def test_unit_is_the_error_itself():
    error = torch.rand(5)
    assert torch.equal(Unit()(error, LEVELS, V), error)


def test_min_snr_is_the_same_in_x_space_whatever_is_predicted():
    x, wrong, noise = torch.randn(3, 5, dtype=torch.float64)
    x_t = LEVELS.alpha * x + LEVELS.sigma * noise
    guess_of_noise = (x_t - LEVELS.alpha * wrong) / LEVELS.sigma
    snr = (LEVELS.alpha / LEVELS.sigma) ** 2
    expected = snr.clamp(max=5) * (x - wrong) ** 2
    for prediction in PREDICTIONS.values():
        error = prediction.target(x, noise, LEVELS) - prediction.target(wrong, guess_of_noise, LEVELS)
        torch.testing.assert_close(MinSnr()(error**2, LEVELS, prediction), expected, rtol=1e-8, atol=1e-12)


def test_min_snr_on_eps_and_v_is_the_papers():
    """Hang et al. 2023, section 3.4: min(SNR, gamma)/SNR for eps, min(SNR, gamma)/(SNR + 1) for v."""
    one, snr = torch.ones(5, dtype=torch.float64), (LEVELS.alpha / LEVELS.sigma) ** 2
    torch.testing.assert_close(MinSnr(3.0)(one, LEVELS, PREDICTIONS["eps"]), snr.clamp(max=3) / snr)
    torch.testing.assert_close(MinSnr(3.0)(one, LEVELS, V), snr.clamp(max=3) / (snr + 1))


def test_min_snr_of_eps_at_pure_noise_is_the_error_itself():
    nothing_left = Level(torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
    error = torch.tensor([0.25], dtype=torch.float64)
    torch.testing.assert_close(MinSnr()(error, nothing_left, PREDICTIONS["eps"]), error)


def test_min_snr_refuses_a_gamma_of_zero():
    with pytest.raises(ValueError, match="gamma above 0"):
        MinSnr(0.0)


def test_an_untrained_uncertainty_is_the_error_itself():
    error = torch.rand(5, dtype=torch.float64)
    assert torch.equal(Uncertainty().double()(error, LEVELS, V), error)


def test_the_features_of_uncertainty_are_cosines_of_multiples_of_twice_the_angle():
    weight, nothing = Uncertainty(3).double(), torch.zeros(5, dtype=torch.float64)
    for number in range(3):
        with torch.no_grad():
            weight.u.weight.zero_()[0, number] = 1
            torch.testing.assert_close(weight(nothing, LEVELS, V), torch.cos(2 * (number + 1) * ANGLES))


def test_uncertainty_is_computed_in_its_own_precision_under_autocast():
    torch.manual_seed(0)
    weight, error = Uncertainty(), torch.rand(5)
    nn.init.normal_(weight.u.weight)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = weight(error, LEVELS, V)
    assert inside.dtype == torch.float32
    assert torch.equal(inside, weight(error, LEVELS, V))
    torch.testing.assert_close(inside.double(), weight.double()(error.double(), LEVELS, V), rtol=1e-5, atol=1e-6)


def test_uncertainty_learns_the_mean_error_of_each_level():
    """The minimum of error/e^u + u is e^u = E[error], so that every level pulls alike."""
    t = Level(LEVELS.alpha.repeat(2), LEVELS.sigma.repeat(2))
    mean = torch.tensor([0.003, 0.05, 0.2, 0.6, 0.9], dtype=torch.float64)
    error = torch.cat([0.5 * mean, 1.5 * mean])
    weight = Uncertainty().double()
    optimiser = torch.optim.LBFGS(weight.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = weight(error, t, V).mean()
        value.backward()
        return value

    optimiser.step(loss)
    learned = (weight(torch.zeros_like(error), t, V)).exp()  # of no error, u itself is left
    torch.testing.assert_close(learned[:5], mean, rtol=1e-3, atol=0)


# --- objectives


class Oracle(Backbone):
    """A perfect network for images that are all of one value: it sees x_t / norm and the level's angle."""

    def __init__(self, prediction, value):
        super().__init__()
        self.prediction, self.value = prediction, value
        self.off = nn.Parameter(torch.zeros(()))

    def forward(self, x, noise, cond):
        angle = (noise * torch.pi / 2).view(-1, 1, 1, 1)
        t = Level(angle.cos(), angle.sin())
        clean = torch.full_like(x, self.value)
        return self.prediction.target(clean, (x - t.alpha * clean) / t.sigma, t) + self.off


@every_prediction
@pytest.mark.parametrize("draw", names("draws"))
def test_a_perfect_network_has_no_loss(draw, prediction):
    """Input scaling, label, target and noising agree, for levels of any scale."""
    objective = Denoising(find(Draw, draw)())
    x = torch.full((16, 2, 3, 3), 0.7, dtype=torch.float64)
    denoiser = Denoiser(Oracle(prediction, 0.7), prediction).double()
    loss = objective(denoiser, x, NOTHING, torch.Generator().manual_seed(0))
    assert float(loss.per_sample.max()) < 1e-9
    assert loss.value.item() < 1e-9


@every_prediction
def test_the_loss_is_the_mean_squared_error_of_the_output(prediction):
    denoiser = Denoiser(Oracle(prediction, 0.7), prediction).double()
    denoiser.backbone.off.data += 0.5
    loss = Denoising()(denoiser, torch.full((4, 1, 2, 2), 0.7, dtype=torch.float64), NOTHING, torch.Generator())
    torch.testing.assert_close(loss.per_sample, torch.full((4,), 0.25, dtype=torch.float64), rtol=1e-6, atol=0)
    loss.value.backward()
    assert float(denoiser.backbone.off.grad) == pytest.approx(1.0)  # d/d off of off^2
    assert not loss.per_sample.requires_grad


class ZeroOutput(Backbone):
    def forward(self, x, noise, cond):
        return torch.zeros_like(x)


def test_a_network_of_zero_output_has_a_loss_of_one_at_every_level():
    """v of unit-variance images has unit variance at every level: EDM's reason for its preconditioning."""
    x = torch.randn(4096, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    loss = Denoising(LogNormal(0.0, 2.0))(Denoiser(ZeroOutput()), x, NOTHING, torch.Generator().manual_seed(2))
    assert loss.value.item() == pytest.approx(1, abs=0.04)
    quiet = loss.level.nsr < 1
    assert float(loss.per_sample[quiet].mean()) == pytest.approx(1, abs=0.06)
    assert float(loss.per_sample[~quiet].mean()) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("name", names("objectives"))
def test_an_objective_is_a_function_of_its_generator(name):
    objective = find(Objective, name)()
    denoiser = Denoiser(Oracle(V, 0.0))
    x = torch.randn(6, 1, 4, 4)
    first, again, other = (
        objective(denoiser, x, NOTHING, torch.Generator().manual_seed(seed)).value for seed in (3, 3, 4)
    )
    assert first.shape == ()
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    first.backward()


def test_a_learned_weight_is_trained_along():
    objective = Denoising(loss_weight=Uncertainty())
    denoiser = Denoiser(ZeroOutput())
    objective(denoiser, torch.randn(6, 1, 4, 4), NOTHING, torch.Generator()).value.backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in objective.parameters())
