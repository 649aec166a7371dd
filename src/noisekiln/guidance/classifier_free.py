"""Classifier-free guidance."""

from dataclasses import dataclass

from torch import Tensor

from noisekiln.components.spec import build
from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.guidance.base import Guidance
from noisekiln.levels import Level


@dataclass(frozen=True)
class ClassifierFree(Guidance):
    """``unwanted + scale (wanted - unwanted)`` (Ho & Salimans 2022; their w is our scale - 1).

    Args:
        scale: 1 is the model as it is, at half the cost; 0 ignores the wish; above 1 asks more strongly.
        low: Noise-to-signal ratio below which the model is left alone (Kynkäänniemi et al. 2024).
        high: Ratio above which it is left alone.
    """

    scale: float = 2.0
    low: float = 0.0
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(
                f"Guidance from {self.low:g} to {self.high:g} is never on. Give low, then high, of 0 or more."
            )
        if not 0 <= self.scale < float("inf"):
            raise ValueError(
                f"A guidance scale of {self.scale:g} would lead away from what is asked for. "
                "Take 0 (ignore the wish), 1 (the model as it is) or more (2 is a good number)."
            )

    def __call__(self, wanted: Denoise, both: DenoiseBoth) -> Denoise:  # noqa: D102 (the base class says it)
        def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            if self.scale == 1 or not self.low <= float(t.nsr) <= self.high:
                return wanted(x_t, t, to=to)
            toward, away = both(x_t, t, to=to)
            return away.toward(toward, self.scale)

        return denoise


def guidance_of(told: str | float | Guidance) -> Guidance:
    """The guidance of a scale, which may be text, or of a spec.

    Raises:
        ValueError: For a scale that cannot be, or no guidance's spec.
    """
    if isinstance(told, Guidance):
        return told
    try:
        scale = float(told)
    except ValueError:
        found: Guidance = build(Guidance, str(told))
        return found
    return ClassifierFree(scale)
