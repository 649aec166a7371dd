"""Sampling options of the uses of a model."""

from dataclasses import dataclass
from typing import Any

from noisekiln.components.limits import MOST_IMAGES
from noisekiln.uses.sampling_options import SamplingOptions, sampling_setting


@dataclass(frozen=True)
class SampleOptions(SamplingOptions):
    """Number of images that a use generates, their condition, and settings of sampling.

    Attributes:
        condition: Condition of the images, such as a class or a prompt; None for unconditional images.
    """

    condition: Any = None
    count: int = sampling_setting(4, "Number of images.", flag="-n", at_least=1, at_most=MOST_IMAGES)

    def arguments(self, **defaults: Any) -> dict[str, Any]:
        """The arguments of `Diffusion.generate`, with the defaults of a use for options that are None."""
        chosen = {name: getattr(self, name) for name in ("guidance", "sampler", "steps", "schedule")}
        own = {name: value for name, value in defaults.items() if chosen[name] is None}
        always = {name: getattr(self, name) for name in ("seed", "batch_size", "precision")}
        return {"conditions": [self.condition] * self.count, **always, **chosen, **own}
