"""Settings of a run as keyword arguments, for type checkers.

Written by `python tools/public_names.py`, from the files themselves.
"""

from pathlib import Path
from typing import TypedDict

from noisekiln.codecs.base import Codec
from noisekiln.draws.base import Draw
from noisekiln.guidance.base import Guidance
from noisekiln.loss_weights.base import LossWeight
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.objectives.base import Objective
from noisekiln.optimizers.base import OptimizerFactory
from noisekiln.samplers.base import Sampler
from noisekiln.schedules.base import Schedule
from noisekiln.tasks.base import Task


class SettingsByName(TypedDict, total=False):
    """The fields of `Settings`, each of which may be left out."""

    start: str | Path | None
    lora: int | None
    size: int | tuple[int, int] | None
    task: str | Task
    road: str
    cond: str
    codec: str | Codec | None
    minutes: float | None
    images: int | None
    epochs: int | None
    flip: bool
    seed: int
    device: str
    model: str
    backbone: str | None
    prediction: str | None
    noise_label: str | NoiseLabel | None
    draw: str | Draw
    loss_weight: str | LossWeight
    objective: str | Objective
    teacher: str | Path | None
    cond_dropout: float
    caption_dropout: float
    batch_size: int | None
    micro_batch_size: int | None
    precision: str | None
    compile: str
    deterministic: bool
    activation_checkpointing: bool
    shard: bool
    timeout: float
    optimizer: str | OptimizerFactory
    lr: float | None
    cooldown: float
    ema_length: float
    ema_snapshots: int
    keep_checkpoints: int
    keep_every: int | None
    score: int | None
    sampler: str | Sampler | None
    steps: int | None
    guidance: str | Guidance | float | None
    schedule: str | Schedule | None
    curves: str
