"""A network of diffusers, as `noisekiln import` keeps it: its `config.json`, and its weights among the model's own."""

import json
from typing import Any

from torch import Tensor

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import Cond
from noisekiln.files.packages import check_packages

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
        self.network: Any = make_network(config)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        classes = None if cond.vector is None else cond.vector[:, 0].round().long()
        y: Tensor = self.network(x, noise, class_labels=classes).sample[:, : self.channels]
        return y


def make_network(config: str) -> Any:
    """The untrained network of a `config.json`.

    Raises:
        ValueError: If diffusers is not installed, or it is none of the `KINDS`.
    """
    check_packages("A network of diffusers", "diffusers", "diffusers")
    import diffusers

    try:
        settings = json.loads(config)
        name = str(settings.get("_class_name", "network of another library"))
    except (ValueError, AttributeError) as error:
        raise ValueError(f"The config.json of a network cannot be read ({error}). Download it again.") from error
    if name not in KINDS:
        raise ValueError(f"A {name} is none of the networks that can be imported: {', '.join(KINDS)}.")
    return getattr(diffusers, name).from_config(settings).eval()
