"""Default sampling settings of a run's model."""

from noisekiln.components.spec import build
from noisekiln.guidance.classifier_free import guidance_of
from noisekiln.model.sampling import Sampling
from noisekiln.plan.settings import Settings
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


def default_sampling(settings: Settings) -> Sampling:
    """The sampling defaults in resolved settings.

    Raises:
        ValueError: If the sampler, schedule or guidance is unknown: now, and not when the model is first sampled.
    """
    sampler, steps, guidance, schedule = settings.sampler, settings.steps, settings.guidance, settings.schedule
    assert sampler is not None
    assert steps is not None
    assert guidance is not None
    assert schedule is not None
    build(Sampler, sampler)
    build(Schedule, schedule)
    guidance_of(guidance)
    return Sampling(sampler, steps, guidance, schedule)
