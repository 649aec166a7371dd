"""A network of diffusers, as `noisekiln import` keeps it: its `config.json`, and its weights among the model's own."""

from typing import Any

from torch import Tensor

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.network_from_config import network_from_config
from noisekiln.conditions import Cond

KINDS = ("UNet2DModel", "DiTTransformer2DModel")


class DiffusersNetwork(Backbone):
    """``network(x, step, class)``, where the noise label is the number of the step, which may lie between two.

    Sizes of x are those that the network takes: multiples of its smallest resolution, and for a DiT its own alone.

    Args:
        channels: Channels of x; of an output with more (a learned variance), the first ones are read.
        vector: 1 for a network that reads the number of a class, as ``Cond.vector``; else 0.
        config: The network's `config.json`, as text.
    """

    def __init__(self, channels: int, vector: int = 0, config: str = "") -> None:
        super().__init__()
        self.channels, self.vector = channels, vector
        self.config = config
        self.network: Any = network_from_config(config, KINDS, "a network")

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        classes = None if cond.vector is None else cond.vector[:, 0].round().long()
        y: Tensor = self.network(x, noise, class_labels=classes).sample[:, : self.channels]
        return y
