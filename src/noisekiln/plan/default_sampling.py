"""How the model of a run is usually sampled."""

from noisekiln.components.spec import build
from noisekiln.model.sampling import Sampling
from noisekiln.plan.settings import Settings
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


def default_sampling(settings: Settings) -> Sampling:
    """What resolved settings say of it.

    Raises:
        ValueError: For a sampler or a schedule that there is not: now, and not when somebody first samples the model.
    """
    sampler, steps, guidance, schedule = settings.sampler, settings.steps, settings.guidance, settings.schedule
    assert sampler is not None
    assert steps is not None
    assert guidance is not None
    assert schedule is not None
    build(Sampler, sampler)
    build(Schedule, schedule)
    return Sampling(sampler, steps, guidance, schedule)
