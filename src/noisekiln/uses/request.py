"""Sampling options that all uses share."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from noisekiln.components.limits import MOST_IMAGES, MOST_STEPS
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check, setting

_sampling = partial(setting, group="Sampling")


@dataclass(frozen=True)
class SampleOptions:
    """Number of images that a use generates, and settings of sampling; None is the default of the model or the use.

    Attributes:
        condition: Condition of the images, such as a class or a prompt; None for unconditional images.
    """

    condition: Any = None
    count: int = _sampling(4, "Number of images.", flag="-n", at_least=1, at_most=MOST_IMAGES)
    seed: int = _sampling(0, "Seed of the first image; image i uses seed + i.", at_least=0, below=2**63)
    guidance: str | float | None = _sampling(
        None,
        "Guidance scale (1: no guidance; higher follows the condition more closely), or a method: "
        "see `noisekiln list guidance`.",
        room="guidance",
    )
    sampler: str | None = _sampling(None, "Sampler: see `noisekiln list samplers`.", room="samplers")
    steps: int | None = _sampling(None, "Number of sampling steps.", at_least=1, at_most=MOST_STEPS)
    schedule: str | None = _sampling(None, "Noise schedule: see `noisekiln list schedules`.", room="schedules")
    # 64 is `noisekiln.model.sampling.BATCH_SIZE`, whose import would import torch, too slow for `--help`.
    batch_size: int = _sampling(
        64, "Images sampled at once; changes only speed and memory.", flag="--batch-size --batch", at_least=1
    )

    precision: str = setting(
        "auto",
        "Precision of the network: auto (bf16 on a GPU that has it, else fp32), fp32, bf16 or fp16.",
        choices=("auto", "fp32", "bf16", "fp16"),
        group="Model and device",
    )

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, **values: Any) -> "SampleOptions":
        """Options from names and values, which may be numbers of numpy and torch.

        Raises:
            ValueError: If an option has an impossible value.
        """
        return cls(**all_plain(values))

    def arguments(self, **defaults: Any) -> dict[str, Any]:
        """The arguments of `Diffusion.generate`, with the defaults of a use for options that are None."""
        chosen = {name: getattr(self, name) for name in ("guidance", "sampler", "steps", "schedule")}
        own = {name: value for name, value in defaults.items() if chosen[name] is None}
        always = {name: getattr(self, name) for name in ("seed", "batch_size", "precision")}
        return {"conditions": [self.condition] * self.count, **always, **chosen, **own}
