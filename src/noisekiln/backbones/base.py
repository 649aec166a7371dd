"""What a backbone is."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from noisekiln.conditions import Cond


class Backbone(nn.Module, ABC):
    """A network from an image to an image of the same shape, of any height and width.

    Its constructor takes `channels` (of the images) and `vector` (the size of ``Cond.vector``, 0 for none), and its
    own settings after them; all are kept as attributes under their own names, so that a saved model can be built again.
    One that reads ``Cond.image``, which tasks need, also takes `image`, its number of channels (0 for none).
    """

    channels: int
    vector: int
    image: int = 0

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """Network output.

        Args:
            x: Images of unit variance, (B, channels, H, W).
            noise: Noise labels, (B,).
            cond: What else is known; slots that it has no use for are ignored.

        Returns:
            (B, channels, H, W).
        """
