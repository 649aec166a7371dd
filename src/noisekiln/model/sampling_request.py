"""A request to a model: everything that its images depend on, checked."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from noisekiln.codecs.base import Size
from noisekiln.levels import Level
from noisekiln.model.sampling import UsedSampling, WrapDenoiser


@dataclass(frozen=True, eq=False)
class SamplingRequest:
    """What `Diffusion.generate` was asked for, with the model's own settings for those that are None.

    Attributes:
        conditions: Condition of each image.
        seeds: Seed of each image.
        used: Settings of sampling.
        levels: Levels from noisy to clean.
        size: Height and width of the images in pixels.
        precision: Precision of the network.
        start: Clean x to start from, with a row for each image or one for all; None for pure noise.
        noise: Unit noise to start with, the same; None for that of the seeds.
        source: Images that the model's task starts from, the same; None without a task.
        wrap_denoiser: Function from the conditioned and guided denoiser to the one that is sampled.
    """

    conditions: Sequence[Any]
    seeds: Sequence[int]
    used: UsedSampling
    levels: Sequence[Level]
    size: Size
    precision: str
    start: Tensor | None
    noise: Tensor | None
    source: Tensor | None
    wrap_denoiser: WrapDenoiser | None
