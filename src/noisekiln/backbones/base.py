"""The interface of backbones."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor, nn

from noisekiln.conditions import Cond

INTERFACE = ("channels", "vector", "tokens", "image")  # constructor arguments that come from data, not from a spec


class Backbone(nn.Module, ABC):
    """A network from x to an output of the same shape, for any height and width.

    Its constructor takes `channels` (of x) and those of `vector`, `tokens` and `image` that it reads: the sizes of the
    slots of `Cond`, 0 for a slot that is never filled. Its own settings follow, with defaults. All arguments are kept
    as attributes under their own names, so that a saved model can be built again. `reads_target`, `static_graph`,
    `exits`, `sizes` and `default_size` may be overridden.
    """

    channels: int
    vector: int = 0
    tokens: int = 0
    image: int = 0
    exits: int = 1  # outputs of `forward`, one after another along the channels: its own, then those of early exits

    reads_target: ClassVar[bool] = False  # whether `noise` has two columns: the label of t, and that of the target `to`
    static_graph: ClassVar[bool] = False  # whether it runs the same operations for all inputs of the same shapes
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}  # settings of its named sizes, smallest first
    default_size: ClassVar[str] = ""  # one of them; "" for the one that fits the budget

    @abstractmethod
    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:
        """Network output.

        Args:
            x: Noisy x of unit variance, (B, channels, H, W).
            noise: Noise labels, (B,); (B, 2) for a network that `reads_target`.
            cond: Conditions; slots that the network does not use are ignored.

        Returns:
            (B, channels, H, W); with `exits`, (B, exits * channels, H, W).
        """

    @classmethod
    def sized(cls, name: str, size: tuple[int, int], *, latents: bool = False) -> dict[str, Any]:
        """Settings of a network of one of the `sizes`, for x of (height, width): pixels, or latents of a codec.

        May be overridden by a network whose settings depend on the size of x too; by default they are those in `sizes`.
        """
        return dict(cls.sizes[name])

    def edges(self) -> list[nn.Module]:
        """The first and the last layer, which read x and write the output; Muon leaves them to AdamW.

        May be overridden; by default, the first and the last convolution.
        """
        convolutions: list[nn.Module] = [layer for layer in self.modules() if isinstance(layer, nn.Conv2d)]
        return convolutions[:1] + convolutions[-1:]
