"""Base class of guidance methods."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor

from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.levels import Level


class Guidance(ABC):
    """A combination of two estimates, with the condition and without it, into one. A frozen dataclass of settings."""

    @abstractmethod
    def estimate(
        self, denoise: Denoise, both: DenoiseBoth, x_t: Tensor, t: Level, *, to: Level | None = None
    ) -> Estimate:
        """The guided estimate.

        Args:
            denoise: The model with the condition alone: half the cost, where guidance is off.
            both: The estimates with and without the condition, together.
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
        denoise: The model with the condition alone.
        both: The estimates with and without the condition, together.
    """

    guidance: Guidance
    denoise: Denoise
    both: DenoiseBoth

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The guided estimate."""
        return self.guidance.estimate(self.denoise, self.both, x_t, t, to=to)
