"""Arguments of sampling as keyword arguments, for type checkers.

Written by `python tools/public_names.py`, from the files themselves.
"""

from collections.abc import Sequence
from typing import TypedDict

from torch import Tensor

from noisekiln.codecs.base import Size
from noisekiln.guidance.base import Guidance
from noisekiln.model.sampling import WrapDenoiser
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


class ArgumentsByName(TypedDict, total=False):
    """The arguments of `Diffusion.generate` apart from `seed` and `batch_size`."""

    seeds: Sequence[int] | None
    sampler: str | Sampler | None
    steps: int | None
    guidance: float | str | Guidance | None
    schedule: str | Schedule | None
    precision: str
    start: Tensor | None
    strength: float
    noise: Tensor | None
    size: Size | None
    source: Tensor | None
    wrap_denoiser: WrapDenoiser | None
