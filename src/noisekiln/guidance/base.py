"""Base class of guidance methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.levels import Level


class Guidance(ABC):
    """A combination of two estimates, a better and a weaker one, into one. A frozen dataclass of settings.

    `weaker` may be overridden.
    """

    weaker: ClassVar[Literal["no condition", "early exit"]] = "no condition"  # where the weaker estimate comes from

    @abstractmethod
    def estimate(
        self, denoise: Denoise, both: DenoiseBoth, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        """The guided estimate.

        Args:
            denoise: The better estimate alone, at half the cost of both where the other one has no condition.
            both: Both estimates together.
            x_t: Noisy images, (B, C, H, W).
            t: Level of x_t.
            to: Level at the end of the step.
        """

    def __call__(self, denoise: Denoise, both: DenoiseBoth) -> Denoise:
        """The guided model; arguments as for `estimate`."""
        return Guided(self, denoise, both)


@dataclass(frozen=True)
class Guided:
    """A guided model: a `Denoise`.

    Args:
        guidance: The method.
        denoise: The better estimate alone.
        both: Both estimates together.
    """

    guidance: Guidance
    denoise: Denoise
    both: DenoiseBoth

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The guided estimate."""
        return self.guidance.estimate(self.denoise, self.both, x_t, t, to=to)


@dataclass(frozen=True)
class ScaledGuidance(Guidance, ABC):
    """``weaker + scale (better - weaker)`` between two noise-to-signal ratios; outside, the better estimate alone.

    Args:
        scale: 1 is no guidance.
        low: Noise-to-signal ratio below which guidance is off (Kynkäänniemi et al. 2024).
        high: Ratio above which it is off.
    """

    advice: ClassVar[str]  # the end of the error about a scale that is not possible: what it does, what to give

    scale: float = 1.0
    low: float = 0.0
    high: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(
                f"Guidance from {self.low:g} to {self.high:g} is never on. Give low, then high, of 0 or more."
            )
        if not 0 <= self.scale < float("inf"):
            raise ValueError(f"A guidance scale of {self.scale:g} {self.advice}")

    def estimate(  # noqa: D102 (the base class says it)
        self, denoise: Denoise, both: DenoiseBoth, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        if self.scale == 1 or not self.low <= float(t.nsr) <= self.high:
            return denoise(x_t, t, to=to)
        better, weaker = both(x_t, t, to=to)
        return weaker.toward(better, self.scale)
