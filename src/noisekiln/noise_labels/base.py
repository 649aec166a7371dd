"""Base class of noise labels."""

from abc import ABC, abstractmethod

from torch import Tensor

from noisekiln.levels import Level


class NoiseLabel(ABC):
    """A function from levels to the scalars that a backbone reads."""

    @abstractmethod
    def __call__(self, t: Level) -> Tensor:
        """The label of each level, in the levels' own shape; finite at both ends; depends on the ratio alone."""
