"""What guidance is."""

from abc import ABC, abstractmethod

from noisekiln.estimate import Denoise, DenoiseBoth


class Guidance(ABC):
    """A way to make one `Denoise` of a wanted and an unwanted one."""

    @abstractmethod
    def __call__(self, wanted: Denoise, both: DenoiseBoth) -> Denoise:
        """The guided model.

        Args:
            wanted: The model with the wanted condition alone: half the cost, where guidance is off.
            both: The wanted and the unwanted estimate together.
        """
