"""Options of an evaluation."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from noisekiln.components.limits import MOST_IMAGES, MOST_STEPS
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check, setting

FAST_COUNT, FAST_STEPS = 200, 10
AVERAGED, RAW = "averaged", "raw"
FEWEST = 10  # samples, and real images on each side: scores compare neighbourhoods of 5
SPLITS = 5  # halvings of the real images, over which each score is averaged

_scores = partial(setting, group="Scores")
_sampling = partial(setting, group="Sampling")


@dataclass(frozen=True)
class EvaluationOptions:
    """What is compared with what; settings of sampling that are None are the model's own."""

    count: int = _scores(
        1000, "Samples, and real images on each side.", flag="-n", at_least=FEWEST, at_most=MOST_IMAGES
    )
    features: str = _scores(
        "auto",
        "Features that are compared: see `noisekiln list features`; or the folder of another run, for the features of "
        "its network, for images that no network knows. Default: efficientnet.",
    )
    weights: str | None = _scores(None, "File with the weights of the feature network, for features=inception.")
    model_weights: str = _scores(
        "both",
        "Weights of a run: averaged (those of its model), raw (those of the last step), or both.",
        choices=("both", AVERAGED, RAW),
    )
    fast: bool = _scores(False, f"In seconds: {FAST_COUNT} samples of {FAST_STEPS} steps, averaged weights only.")
    seed: int = _sampling(0, "Seed of the first sample; sample i uses seed + i.", at_least=0, below=2**63)
    guidance: str | float | None = _sampling(
        None, "Guidance scale, or a method: see `noisekiln list guidance`.", room="guidance"
    )
    sampler: str | None = _sampling(None, "Sampler: see `noisekiln list samplers`.", room="samplers")
    steps: int | None = _sampling(None, "Number of sampling steps.", at_least=1, at_most=MOST_STEPS)
    schedule: str | None = _sampling(None, "Noise schedule: see `noisekiln list schedules`.", room="schedules")
    # 64 is `noisekiln.model.sampling.BATCH_SIZE`, whose import would import torch, too slow for `--help`.
    batch_size: int = _sampling(
        64, "Images sampled at once; changes only speed and memory.", flag="--batch-size --batch", at_least=1
    )
    precision: str = _sampling(
        "auto", "Precision of the network: auto, fp32, bf16 or fp16.", choices=("auto", "fp32", "bf16", "fp16")
    )

    def __post_init__(self) -> None:
        check(self)

    @classmethod
    def of(cls, **values: Any) -> "EvaluationOptions":
        """Options from names and values, which may be numbers of numpy and torch.

        Raises:
            ValueError: If an option has an impossible value.
        """
        return cls(**all_plain(values))

    @property
    def resolved(self) -> "EvaluationOptions":
        """These options, with what `fast` stands for."""
        if not self.fast:
            return self
        weights = AVERAGED if self.model_weights == "both" else self.model_weights
        return replace(self, count=min(self.count, FAST_COUNT), steps=self.steps or FAST_STEPS, model_weights=weights)

    @property
    def sampling(self) -> dict[str, Any]:
        """The arguments of a model's `generate` on which images depend."""
        return {name: getattr(self, name) for name in ("guidance", "sampler", "steps", "schedule", "precision")}
