"""Sampling options that uses and evaluations share."""

from abc import ABC
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from noisekiln.components.limits import MOST_STEPS
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check, setting

sampling_setting = partial(setting, group="Sampling")


@dataclass(frozen=True)
class SamplingOptions(ABC):  # noqa: B024  # only settings are shared
    """Settings of sampling; None is the default of the model or the use."""

    seed: int = sampling_setting(0, "Seed of the first image; image i uses seed + i.", at_least=0, below=2**63)
    guidance: str | float | None = sampling_setting(
        None,
        "Guidance scale (1: no guidance; higher follows the condition more closely), or a method: "
        "see `noisekiln list guidance`.",
        room="guidance",
    )
    sampler: str | None = sampling_setting(None, "Sampler: see `noisekiln list samplers`.", room="samplers")
    steps: int | None = sampling_setting(None, "Number of sampling steps.", at_least=1, at_most=MOST_STEPS)
    schedule: str | None = sampling_setting(None, "Noise schedule: see `noisekiln list schedules`.", room="schedules")
    batch_size: int | None = sampling_setting(
        None,
        "Images sampled at once; changes only speed and memory. Default: as many as memory holds, up to 64.",
        flag="--batch-size --batch",
        at_least=1,
    )

    precision: str = setting(
        "auto",
        "Precision of the network: auto (bf16 on a GPU or a CPU with units for it, else fp32), fp32, bf16 or fp16.",
        choices=("auto", "fp32", "bf16", "fp16"),
        group="Model and device",
    )

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Options from names and values, which may be numbers of numpy and torch.

        Raises:
            ValueError: If an option has an impossible value.
        """
        return cls(**all_plain(values))
