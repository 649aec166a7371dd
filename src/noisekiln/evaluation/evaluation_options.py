"""Options of an evaluation."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from noisekiln.components.limits import MOST_IMAGES
from noisekiln.components.setting import setting
from noisekiln.uses.sampling_options import SamplingOptions

FAST_COUNT, FAST_STEPS = 200, 10
AVERAGED, RAW = "averaged", "raw"
FEWEST = 10  # samples, and real images on each side: scores compare neighbourhoods of 5
SPLITS = 5  # halvings of the real images, over which each score is averaged

_scores = partial(setting, group="Scores")


@dataclass(frozen=True)
class EvaluationOptions(SamplingOptions):
    """What is compared with what, and settings of sampling."""

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
