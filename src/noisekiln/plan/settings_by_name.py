"""Settings of a run as keyword arguments, for type checkers.

Written by `python tools/public_names.py`, from the files themselves.
"""

from pathlib import Path
from typing import TypedDict


class SettingsByName(TypedDict, total=False):
    """The fields of `Settings`, each of which may be left out."""

    start: str | Path | None
    lora: int | None
    size: int | tuple[int, int] | None
    task: str
    cond: str
    codec: str | None
    minutes: float | None
    images: int | None
    epochs: int | None
    seed: int
    device: str
    model: str
    backbone: str | None
    prediction: str | None
    noise_label: str | None
    draw: str
    loss_weight: str
    objective: str
    teacher: str | Path | None
    cond_dropout: float
    batch_size: int | None
    micro_batch_size: int | None
    precision: str | None
    compile: str
    deterministic: bool
    activation_checkpointing: bool
    shard: bool
    timeout: float
    optimizer: str
    lr: float | None
    cooldown: float
    ema_length: float
    ema_snapshots: int
    keep_checkpoints: int
    keep_every: int | None
    sampler: str | None
    steps: int | None
    guidance: str | float | None
    schedule: str | None
    curves: str
