"""Learned weighting by uncertainty, EDM2's."""

from math import pi

import torch
from torch import Tensor, nn

from noisekiln.levels import Level
from noisekiln.loss_weights.base import LossWeight
from noisekiln.predictions import Prediction


class Uncertainty(LossWeight):
    """``error / exp(u(t)) + u(t)`` with a learned u: all levels contribute equally (Karras et al. 2024, eq. 21).

    Computed in the precision of its parameters, also under autocast.

    Args:
        features: Number of cosine features of the level's angle that u is linear in.
    """

    def __init__(self, features: int = 32) -> None:
        super().__init__()
        self.features = features
        self.u = nn.Linear(features, 1)
        nn.init.zeros_(self.u.weight)
        nn.init.zeros_(self.u.bias)

    def forward(self, error: Tensor, t: Level, prediction: Prediction) -> Tensor:  # noqa: D102
        with torch.autocast(error.device.type, enabled=False):
            error = error.to(self.u.weight.dtype)
            # Cosines of multiples of twice the angle are a complete basis of smooth functions of the level.
            multiples = torch.arange(1, self.features + 1, device=error.device, dtype=error.dtype)
            position = t.angle.to(error) / (pi / 2)
            u = self.u(torch.cos(pi * multiples * position[:, None])).squeeze(1)
            weighted: Tensor = error / u.exp() + u
        return weighted
