import pytest
import torch

from noisekiln.components.registry import find, names
from noisekiln.guidance.base import Guidance
from noisekiln.guidance.classifier_free import ClassifierFree, guidance_of
from noisekiln.levels import CLEAN, PURE_NOISE, level
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
