import numpy as np
import pytest
import torch

import noisekiln as nk
from noisekiln.backbones.dit import Dit
from noisekiln.backbones.unet import Unet
from noisekiln.components.registry import find, names
from noisekiln.conditions import NOTHING
from noisekiln.denoisers import Denoiser
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import ClassifierFree, guidance_of
from noisekiln.guidance.internal import Internal
from noisekiln.levels import CLEAN, PURE_NOISE, Level, level
from noisekiln.objectives.denoising import Denoising
from noisekiln.samplers.base import Sampler, grid
from noisekiln.schedules.rectified import Rectified
from oracles import GAUSSIAN, MIXTURE, no_noise, walk

X = torch.linspace(-2, 2, 5, dtype=torch.float64).view(-1, 1, 1, 1)
LEVELS = [PURE_NOISE, level(0.6, 0.8), level(1.0, 30.0), level(0.99, 0.02)]


def both(x_t, t, *, to=None):
    return GAUSSIAN(x_t, t), MIXTURE(x_t, t)


def never(x_t, t, *, to=None):
    raise AssertionError("this must not be called")


def test_a_scale_of_one_is_the_conditional_model_at_half_the_cost():
    guided = ClassifierFree(1.0)(GAUSSIAN, never)
    for t in LEVELS:
        assert torch.equal(guided(X, t).x, GAUSSIAN(X, t).x)


def test_a_scale_of_zero_is_the_unconditional_model():
    guided = ClassifierFree(0.0)(never, both)
    for t in LEVELS:
        torch.testing.assert_close(guided(X, t).x, MIXTURE(X, t).x, rtol=0, atol=1e-12)
        torch.testing.assert_close(guided(X, t).eps, MIXTURE(X, t).eps, rtol=0, atol=1e-12)


@pytest.mark.parametrize("scale", [0.5, 2.0, 7.5])
def test_it_is_the_papers_formula(scale):
    """Ho & Salimans 2022, eq. 6: (1 + w) eps_cond - w eps_uncond with w = scale - 1."""
    guided = ClassifierFree(scale)(GAUSSIAN, both)
    for t in LEVELS:
        expected = scale * GAUSSIAN(X, t).eps - (scale - 1) * MIXTURE(X, t).eps
        torch.testing.assert_close(guided(X, t).eps, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("spec", [3, 3.0, "3", "classifier_free(scale=3)", ClassifierFree(3.0)])
def test_a_scale_is_a_number_or_text_or_a_spec(spec):
    assert guidance_of(spec) == ClassifierFree(3.0)


@pytest.mark.parametrize("spec", ["nan", "-1", "inf"])
def test_an_impossible_scale_given_as_text_is_refused(spec):
    with pytest.raises(ValueError, match="A guidance scale of"):
        guidance_of(spec)


@pytest.mark.parametrize("name", names("guidance"))
def test_a_guided_estimate_stays_on_the_plane(name):
    guided = find(Guidance, name)()(GAUSSIAN, both)
    for t in LEVELS:
        torch.testing.assert_close(guided(X, t, to=CLEAN).at(t), X, rtol=0, atol=1e-11)


@pytest.mark.parametrize("sampler", names("samplers"))
@pytest.mark.parametrize("name", names("guidance"))
def test_every_guidance_works_with_every_sampler(name, sampler):
    guided = find(Guidance, name)()(GAUSSIAN, both)
    last = walk(guided, find(Sampler, sampler)(), grid(Rectified(), 8), X, torch.zeros_like)
    assert bool(last.isfinite().all())


def test_outside_its_interval_the_model_is_left_alone():
    guide = ClassifierFree(3.0, low=0.5, high=2.0)
    for t, inside in (
        (level(1.0, 0.4), False),
        (level(1.0, 0.5), True),
        (level(0.6, 0.8), True),
        (level(1.0, 2.1), False),
        (level(0.3, 0.9), False),  # the ratio is 3
        (level(0.3, 0.3), True),  # the ratio is 1
    ):
        guided = guide(GAUSSIAN, both) if inside else guide(GAUSSIAN, never)
        expected = MIXTURE(X, t).toward(GAUSSIAN(X, t), 3.0) if inside else GAUSSIAN(X, t)
        torch.testing.assert_close(guided(X, t).x, expected.x)


def test_pure_noise_is_inside_an_interval_without_end():
    torch.testing.assert_close(ClassifierFree(0.0)(never, both)(X, PURE_NOISE).x, MIXTURE(X, PURE_NOISE).x)


def test_the_target_level_is_passed_on():
    landings = []

    def recording(x_t, t, *, to=None):
        landings.append(to)
        return both(x_t, t)

    ClassifierFree(2.0)(never, recording)(X, LEVELS[1], to=CLEAN)
    ClassifierFree(1.0)(lambda x_t, t, *, to=None: (landings.append(to), GAUSSIAN(x_t, t))[1], never)(
        X, LEVELS[1], to=CLEAN
    )
    assert landings == [CLEAN, CLEAN]


def test_guidance_moves_samples_away_from_the_unconditional_model():
    x = PURE_NOISE.norm * X
    means = [
        float(
            walk(
                ClassifierFree(scale)(GAUSSIAN, both), find(Sampler, "heun")(), grid(Rectified(), 20), x, no_noise
            ).mean()
        )
        for scale in (0.0, 1.0, 2.0)
    ]
    assert means[0] < means[1] < means[2]


def test_a_negative_scale_is_refused():
    with pytest.raises(ValueError, match=r"guidance scale of -1 .* Use 0 \(ignore the condition\), 1"):
        ClassifierFree(-1.0)


# Internal guidance


def test_internal_guidance_leads_away_from_the_early_exit():
    guided = Internal(1.7)(never, both)
    for t in LEVELS:
        torch.testing.assert_close(guided(X, t).x, 1.7 * GAUSSIAN(X, t).x - 0.7 * MIXTURE(X, t).x, rtol=0, atol=1e-11)
    assert torch.equal(Internal(1.0)(GAUSSIAN, never)(X, LEVELS[1]).x, GAUSSIAN(X, LEVELS[1]).x)
    assert torch.equal(Internal(3.0, high=1.0)(GAUSSIAN, never)(X, LEVELS[2]).x, GAUSSIAN(X, LEVELS[2]).x)
    for words in ({"scale": -1.0}, {"scale": float("inf")}, {"low": 2.0, "high": 1.0}):
        with pytest.raises(ValueError, match="uidance"):
            Internal(**words)


@pytest.mark.parametrize("backbone", [Unet(1, widths=(32, 32), blocks=(1, 1), condition=16, early_exit=True),
                                      Dit(1, width=32, depth=3, head=16, condition=16, early_exit=True)])  # fmt: skip
def test_an_early_exit_learns_the_same_target_at_half_the_weight(backbone):
    """Both networks begin with outputs of 0, so the loss is 1.5 times the mean square of the target."""
    denoiser = Denoiser(backbone)
    x = torch.randn(3, 1, 7, 5, generator=torch.Generator().manual_seed(1))
    objective, generator = Denoising(), torch.Generator().manual_seed(2)
    alpha, sigma, noise = objective.drawn(x, generator)
    loss = objective.loss(denoiser, x, NOTHING, (alpha, sigma, noise))
    t = Level(*(part.view(-1, 1, 1, 1) for part in (alpha, sigma)))
    target = denoiser.prediction.target(x, noise, t).square().mean()
    torch.testing.assert_close(loss.value, 1.5 * target)
    torch.testing.assert_close(loss.per_sample.mean(), target)
    loss.value.backward()
    assert all(float(part.grad.abs().sum()) > 0 for part in (backbone.exit.weight, backbone.edges()[1].weight))


@pytest.mark.parametrize("kind", [Unet, Dit])
def test_an_early_exit_changes_nothing_of_the_network_and_sees_a_part_of_it(kind):
    torch.manual_seed(0)
    small = {"widths": (32, 32), "blocks": (1, 1)} if kind is Unet else {"width": 32, "depth": 2, "head": 16}
    plain, with_exit = kind(1, **small), kind(1, **small, early_exit=True)
    for parameter in with_exit.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    plain.load_state_dict({name: with_exit.state_dict()[name] for name in plain.state_dict()})
    x = torch.randn(2, 1, 6, 9)
    own, early = Denoiser(with_exit).outputs(x, level(0.6, 0.8))
    torch.testing.assert_close(own, Denoiser(plain).output(x, level(0.6, 0.8)))
    assert own.shape == early.shape == x.shape
    late = [*with_exit.up.parameters()] if kind is Unet else [*with_exit.layers[1].parameters()]
    early.square().sum().backward()
    assert all(not part.grad.any() for part in late), "the early exit stands before them"
    assert float(with_exit.exit.weight.grad.abs().sum()) > 0
    first, second = Denoiser(with_exit).bind_exits(NOTHING)(x, level(0.6, 0.8))
    torch.testing.assert_close(first.x, Denoiser(plain)(x, level(0.6, 0.8)).x)
    assert not torch.allclose(first.x, second.x)


def test_internal_guidance_needs_an_early_exit_and_no_condition(tmp_path):
    images = torch.randint(256, (40, 8, 8, 1), dtype=torch.uint8).numpy()
    words = {"images": 16, "batch_size": 8, "guidance": "internal(scale=2)", "steps": 2}
    with pytest.raises(ValueError, match=r"was trained without an early exit. Train with `backbone=unet\(early_exit"):
        nk.train(images, out=tmp_path / "plain", backbone="unet(widths=(32,), blocks=(1,))", **words)
    nk.train(images, out=tmp_path / "run", backbone="unet(widths=(32, 32), blocks=(1, 1), early_exit=True)", **words)
    model = nk.load(tmp_path / "run")
    assert model.sampling.guidance == "internal(scale=2)"
    guided = model.sample(2, seed=1)
    assert not np.array_equal(np.asarray(guided), np.asarray(model.sample(2, seed=1, guidance=1)))
    assert np.array_equal(np.asarray(guided), np.asarray(model.sample(2, seed=1, guidance=nk.Internal(2.0))))
