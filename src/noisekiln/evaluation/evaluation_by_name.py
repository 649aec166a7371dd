"""Options of an evaluation as keyword arguments, for type checkers.

Written by `python tools/public_names.py`, from the files themselves.
"""

from typing import TypedDict

from noisekiln.guidance.base import Guidance
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule


class EvaluationByName(TypedDict, total=False):
    """The fields of `EvaluationOptions`."""

    count: int
    features: str
    weights: str | None
    model_weights: str
    fast: bool
    seed: int
    guidance: str | Guidance | float | None
    sampler: str | Sampler | None
    steps: int | None
    schedule: str | Schedule | None
    batch_size: int | None
    precision: str
