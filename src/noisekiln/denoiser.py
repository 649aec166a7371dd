"""A network made into a denoiser: scaled input, noise label, and the meaning of its output."""

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import NOTHING, Cond
from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.levels import Level
from noisekiln.noise_labels.angle import Angle
from noisekiln.noise_labels.base import NoiseLabel
from noisekiln.predictions import Prediction, V


class Denoiser(nn.Module):
    """``(x_t, t, cond) -> Estimate``.

    The backbone sees ``x_t / norm``, which has unit variance at every level, and the level's label. With `V` this is
    EDM's preconditioning (Karras et al. 2022, eq. 7) for images of unit variance, and nothing depends on the scale of
    the levels: any schedule can be sampled with any training draw.

    Args:
        backbone: The network.
        prediction: What it outputs.
        label: How it is told the level.
    """

    def __init__(self, backbone: Backbone, prediction: Prediction = V, label: NoiseLabel | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.prediction = prediction
        self.noise_label = label or Angle()

    def output(self, x_t: Tensor, t: Level, cond: Cond = NOTHING) -> Tensor:
        """The network's own output y, the shape of ``x_t``."""
        label = self.noise_label(t).to(x_t.device, x_t.dtype).flatten().expand(len(x_t))
        y: Tensor = self.backbone(x_t / t.norm, label, cond)
        return y

    def forward(self, x_t: Tensor, t: Level, cond: Cond = NOTHING, *, to: Level | None = None) -> Estimate:
        """Estimate image and noise in ``x_t``, (B, C, H, W); `to` is accepted for the protocol's sake."""
        return self.prediction.estimate(x_t, self.output(x_t, t, cond), t)

    def bind(self, cond: Cond) -> Denoise:
        """This denoiser with its condition fixed."""

        def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            estimate: Estimate = self(x_t, t, cond, to=to)
            return estimate

        return denoise

    def bind_both(self, wanted: Cond, unwanted: Cond) -> DenoiseBoth:
        """This denoiser for two conditions at once, in one call of twice the batch."""
        both = Cond.cat([wanted, unwanted])

        def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> tuple[Estimate, Estimate]:
            x, eps = self(torch.cat([x_t, x_t]), t, both, to=to)
            n = len(x_t)
            return Estimate(x[:n], eps[:n]), Estimate(x[n:], eps[n:])

        return denoise
