"""Options of the uses of a model as keyword arguments, for type checkers.

Written by `python tools/public_names.py`, from the files themselves.
"""

from typing import Any, TypedDict

from noisekiln.guidance.base import Guidance
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


class OptionsByName(TypedDict, total=False):
    """The fields of `SampleOptions`."""

    condition: Any
    count: int
    seed: int
    guidance: str | Guidance | float | None
    sampler: str | Sampler | None
    steps: int | None
    schedule: str | Schedule | None
    batch_size: int | None
    precision: str


class SeedByName(TypedDict, total=False):
    """The fields of `SampleOptions` apart from `count`."""

    condition: Any
    seed: int
    guidance: str | Guidance | float | None
    sampler: str | Sampler | None
    steps: int | None
    schedule: str | Schedule | None
    batch_size: int | None
    precision: str


class SamplingByName(TypedDict, total=False):
    """The fields of `SampleOptions` apart from `count` and `seed`."""

    condition: Any
    guidance: str | Guidance | float | None
    sampler: str | Sampler | None
    steps: int | None
    schedule: str | Schedule | None
    batch_size: int | None
    precision: str
