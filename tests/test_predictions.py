import types
from pathlib import Path

import pytest
import torch

from noisekiln import predictions
from noisekiln.components.registry import find, names
from noisekiln.levels import CLEAN, PURE_NOISE, Level, level
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.predictions import EPS, FLOW, PREDICTIONS, X0, V
from noisekiln.schedules.base import Schedule
from oracles import GAUSSIAN

TIMES = [0.01, 0.3, 0.7, 0.99]
X, NOISE = torch.tensor([[1.7, -0.4, 0.0], [0.3, -2.0, 1.1]], dtype=torch.float64)
all_predictions = pytest.mark.parametrize("prediction", PREDICTIONS.values(), ids=PREDICTIONS)


def all_levels():
    for name in names("schedules"):
        for time in TIMES:
            yield find(Schedule, name)()(torch.tensor(time, dtype=torch.float64))


def test_they_are_known_by_their_names():
    assert {"x0": X0, "eps": EPS, "v": V, "flow": FLOW}.items() <= PREDICTIONS.items()
    assert all(prediction.name == name for name, prediction in PREDICTIONS.items())


def test_one_more_line_is_one_more_prediction():
    source = Path(predictions.__file__).read_text(encoding="utf-8")
    line = 'MINE = Prediction("mine", lambda t: (_one(t), -_one(t)))'
    extended = types.ModuleType(predictions.__name__)
    exec(source.replace("\nFLOW = ", f"\n{line}\nFLOW = "), vars(extended))
    assert set(extended.PREDICTIONS) == {*PREDICTIONS, "mine"}


@all_predictions
def test_image_and_noise_come_back_from_the_output(prediction):
    for t in all_levels():
        x_t = t.alpha * X + t.sigma * NOISE
        x, eps = prediction.estimate(x_t, prediction.target(X, NOISE, t), t)
        torch.testing.assert_close(x, X, rtol=0, atol=1e-8)
        torch.testing.assert_close(eps, NOISE, rtol=0, atol=1e-8)


@pytest.mark.parametrize("prediction", [V, FLOW], ids=lambda p: p.name)
@pytest.mark.parametrize("t", [CLEAN, PURE_NOISE], ids=["clean", "noise"])
def test_v_and_flow_are_exact_at_both_ends(prediction, t):
    x, eps = prediction.estimate(t.alpha * X + t.sigma * NOISE, prediction.target(X, NOISE, t), t)
    torch.testing.assert_close(x, X, rtol=0, atol=1e-12)
    torch.testing.assert_close(eps, NOISE, rtol=0, atol=1e-12)


def test_the_others_fail_only_where_they_say_nothing():
    assert float(EPS.determinant(PURE_NOISE)) == 0
    assert float(X0.determinant(CLEAN)) == 0
    assert float(EPS.determinant(CLEAN)) == 1
    assert float(X0.determinant(PURE_NOISE)) == -1


@all_predictions
def test_any_output_gives_an_estimate_on_the_plane(prediction):
    """For any output of a network, image and noise recombine to the noisy image."""
    for t in all_levels():
        torch.testing.assert_close(prediction.estimate(X, NOISE, t).at(t), X, rtol=0, atol=1e-7)


@all_predictions
def test_the_loss_of_the_output_is_that_of_the_image_times_loss_scale(prediction):
    for t in all_levels():
        x_t = t.alpha * X + t.sigma * NOISE
        guess = GAUSSIAN(x_t, t)
        of_output = (prediction.target(X, NOISE, t) - prediction.target(*guess, t)) ** 2
        torch.testing.assert_close(of_output, prediction.loss_scale(t) * (X - guess.x) ** 2, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.01, 0.5, 1.0, 50.0])
def test_edms_preconditioning_is_v(sigma):
    """Karras et al. 2022, table 1 with sigma_data = 1: D = c_skip x_t + c_out F(c_in x_t), and F = -v."""
    t = level(1.0, sigma)
    c_skip, c_out, c_in = 1 / (sigma**2 + 1), sigma / (sigma**2 + 1) ** 0.5, 1 / (sigma**2 + 1) ** 0.5
    assert float(1 / t.norm) == pytest.approx(c_in, rel=1e-12)
    torch.testing.assert_close(V.estimate(X, -NOISE, t).x, c_skip * X + c_out * NOISE, rtol=1e-12, atol=1e-12)
    assert float(V.loss_scale(t)) == pytest.approx((sigma**2 + 1) / sigma**2)  # lambda(sigma) of EDM


def test_v_is_salimans_and_hos_on_the_circle_and_flow_the_velocity_of_the_straight_path():
    t = level(0.6, 0.8)
    torch.testing.assert_close(V.target(X, NOISE, t), 0.6 * NOISE - 0.8 * X)
    torch.testing.assert_close(FLOW.target(X, NOISE, level(0.3, 0.7)), NOISE - X)


@all_predictions
def test_levels_of_a_batch_broadcast(prediction):
    t = Level(torch.rand(4, 1, 1, 1) + 0.1, torch.rand(4, 1, 1, 1) + 0.1)
    x, noise = torch.randn(2, 4, 3, 5, 2)
    back = prediction.estimate(t.alpha * x + t.sigma * noise, prediction.target(x, noise, t), t)
    torch.testing.assert_close(back.x, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", names("noise_labels"))
def test_labels_are_finite_rise_and_depend_on_the_ratio_alone(name):
    label = find(NoiseLabel, name)()
    angles = torch.linspace(0.02, 1.55, 40, dtype=torch.float64)
    t = Level(angles.cos(), angles.sin())
    assert label(t).shape == (40,)
    assert bool((label(t).diff() > 0).all())
    torch.testing.assert_close(label(Level(7 * t.alpha, 7 * t.sigma)), label(t), rtol=1e-9, atol=1e-9)
    for end in (CLEAN, PURE_NOISE):
        assert bool(label(end).isfinite())


def test_labels_have_the_printed_values():
    assert float(find(NoiseLabel, "angle")()(level(1.0, 1.0))) == pytest.approx(0.5)
    assert float(find(NoiseLabel, "log_nsr")()(level(1.0, 80.0))) == pytest.approx(torch.tensor(80.0).log().item() / 4)


def test_ddpms_integer_steps_are_a_label():
    from noisekiln.noise_labels.time import Time
    from noisekiln.schedules.linear_betas import LinearBetas

    label = Time(LinearBetas(), scale=1000, from_zero=True)
    for step in (0, 1, 499, 999):
        t = LinearBetas()(torch.tensor((step + 1) / 1000, dtype=torch.float64))
        assert float(label(t)) == pytest.approx(step, abs=1e-6)
