"""Sampling options that all uses share."""

from dataclasses import dataclass
from typing import Any

from noisekiln.components.setting import check, setting


@dataclass(frozen=True)
class SampleOptions:
    """How many images a use generates, and how; None stands for the default of the model, or of the use.

    Attributes:
        condition: What they show, as the model's conditioner takes it: a class, a prompt; None for no condition.
    """

    condition: Any = None
    count: int = setting(4, "Number of images.", flag="-n", at_least=1)
    seed: int = setting(0, "Seed of the first image; the others count on.", at_least=0, below=2**63)
    guidance: str | float | None = setting(
        None, "How closely the condition is followed (1: the model as it is), or a spec: `noisekiln list guidance`."
    )
    sampler: str | None = setting(None, "Sampler: see `noisekiln list samplers`.")
    steps: int | None = setting(None, "Number of sampling steps.", at_least=1)
    schedule: str | None = setting(None, "Noise schedule: see `noisekiln list schedules`.")
    batch_size: int = setting(
        16, "Images sampled at once; changes only speed and memory.", flag="--batch-size --batch", at_least=1
    )

    def __post_init__(self) -> None:
        check(self)

    def arguments(self, **defaults: Any) -> dict[str, Any]:
        """The arguments of `Diffusion.generate`, with a use's own defaults for what was not chosen."""
        chosen = {name: getattr(self, name) for name in ("guidance", "sampler", "steps", "schedule")}
        own = {name: value for name, value in defaults.items() if chosen[name] is None}
        conditions = [self.condition] * self.count
        return {"conditions": conditions, "seed": self.seed, "batch_size": self.batch_size, **chosen, **own}
