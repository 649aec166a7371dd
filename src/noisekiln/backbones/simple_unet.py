"""Simple U-Net of the study notes: plain convolutions, for lessons."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.backbones.base import Backbone
from noisekiln.blocks.shape import concat_condition_image, match_size
from noisekiln.conditions import Cond


class SimpleUnet(Backbone):
    """Three convolutions down, three up, plain ReLUs, no norms; time is appended as channels at the bottom.

    The notes' listing has 64, 128 and 256 channels for one-channel images; here they work for any channels and size.

    Args:
        channels: Channels of x.
        vector: Size of ``Cond.vector``, 0 for none.
        width: Channels of the first convolution.
        image: Channels of ``Cond.image``, 0 for none.
    """

    static_graph: ClassVar[bool] = True
    default_size: ClassVar[str] = "m"  # the width of the notes
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "xs": {"width": 16}, "s": {"width": 32}, "m": {"width": 64}, "l": {"width": 96}, "xl": {"width": 128},
    }  # fmt: skip

    def __init__(self, channels: int, vector: int = 0, width: int = 64, image: int = 0) -> None:
        super().__init__()
        self.channels = channels
        self.vector = vector
        self.width = width
        self.image = image
        self.down1 = nn.Conv2d(channels + image, width, 3, padding=1)
        self.down2 = nn.Conv2d(width, 2 * width, 3, stride=2, padding=1)
        self.down3 = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.embed_time = nn.Sequential(nn.Linear(1, 4 * width), nn.ReLU(), nn.Linear(4 * width, 4 * width))
        self.embed_vector = nn.Linear(vector, 4 * width) if vector else None
        self.up3 = nn.Conv2d(8 * width, 2 * width, 3, padding=1)
        self.up2 = nn.Conv2d(4 * width, width, 3, padding=1)
        self.up1 = nn.Conv2d(2 * width, channels, 3, padding=1)

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        x1 = F.relu(self.down1(concat_condition_image(x, cond.image, self.image)))
        x2 = F.relu(self.down2(x1))
        x3 = F.relu(self.down3(x2))
        time = self.embed_time(noise[:, None])
        if self.embed_vector is not None and cond.vector is not None:
            time = time + self.embed_vector(cond.vector)
        x = torch.cat([x3, time[:, :, None, None].expand_as(x3)], dim=1)
        x = torch.cat([_double(F.relu(self.up3(x)), x2), x2], dim=1)
        x = torch.cat([_double(F.relu(self.up2(x)), x1), x1], dim=1)
        y: Tensor = self.up1(x)
        return y


def _double(x: Tensor, like: Tensor) -> Tensor:
    return match_size(F.interpolate(x, scale_factor=2.0, mode="bilinear"), like)
