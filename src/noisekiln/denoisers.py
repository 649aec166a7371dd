"""A network made into a denoiser: scaled input, noise label, and what the output means."""

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.components.registry import name_of
from noisekiln.conditions import NOTHING, Cond
from noisekiln.estimate import Denoise, DenoiseBoth, Estimate
from noisekiln.levels import Level
from noisekiln.machine.autocast import autocast
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
        prediction: Type of its output.
        label: Noise label, the network's input for the noise level.
    """

    def __init__(self, backbone: Backbone, prediction: Prediction = V, label: NoiseLabel | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.prediction = prediction
        self.noise_label = label or Angle()

    def output(
        self, x_t: Tensor, t: Level, cond: Cond = NOTHING, *, to: Level | None = None, precision: str = "fp32"
    ) -> Tensor:
        """The network's own output y, with the shape and type of ``x_t``; arguments as for `forward`."""
        return self.outputs(x_t, t, cond, to=to, precision=precision)[0]

    def outputs(
        self, x_t: Tensor, t: Level, cond: Cond = NOTHING, *, to: Level | None = None, precision: str = "fp32"
    ) -> tuple[Tensor, ...]:
        """The network's own output y, then those of its early exits, each with the shape and type of ``x_t``."""
        labels = self._labels(x_t, t)
        if self.backbone.reads_target:
            labels = torch.stack([labels, self._labels(x_t, t if to is None else to)], dim=1)
        x_in = x_t / t.norm
        with autocast(precision, x_t.device.type):
            y: Tensor = self.backbone(x_in, labels, cond)
        if not isinstance(y, Tensor):
            raise ValueError(
                f"The backbone {name_of(type(self.backbone))} returned a {type(y).__name__}, and has to return a "
                "tensor of the shape of x. Correct its `forward`."
            )
        exits = self.backbone.exits
        if y.shape != (len(x_t), exits * x_t.shape[1], *x_t.shape[2:]):
            raise ValueError(
                f"The backbone {name_of(type(self.backbone))} returned the shape {tuple(y.shape)} for images of "
                f"{tuple(x_t.shape)}, but has to keep it. Correct its `forward`, or use another `backbone`."
            )
        return y.to(x_t.dtype).chunk(exits, dim=1)

    def forward(
        self, x_t: Tensor, t: Level, cond: Cond = NOTHING, *, to: Level | None = None, precision: str = "fp32"
    ) -> Estimate:
        """Estimate image and noise.

        Args:
            x_t: Noisy x, (B, C, H, W).
            t: Level of x_t.
            cond: The condition of each image.
            to: Level at the end of the step, for a backbone that `reads_target`; t itself if None.
            precision: Precision of the network alone, "fp32", "bf16" or "fp16"; "fp32" keeps an outer autocast.
        """
        return self.prediction.estimate(x_t, self.output(x_t, t, cond, to=to, precision=precision), t)

    def bind(self, cond: Cond, precision: str = "fp32") -> Denoise:
        """This denoiser with its condition fixed, and its network in a precision."""
        return Bound(self, cond, precision)

    def bind_both(self, cond: Cond, unconditional: Cond, precision: str = "fp32") -> DenoiseBoth:
        """This denoiser for two conditions at once, in one call of twice the batch."""
        return BoundPair(self, Cond.cat([cond, unconditional]), precision)

    def bind_exits(self, cond: Cond, precision: str = "fp32") -> DenoiseBoth:
        """This denoiser with its condition fixed: its own estimate and that of its early exit, in one call.

        Raises:
            ValueError: If its network has no early exit.
        """
        if self.backbone.exits < 2:
            name = name_of(type(self.backbone))
            raise ValueError(
                f"Internal guidance compares two estimates of one network, but this one ({name}) was trained without "
                "an early exit. Train with `backbone=unet(early_exit=True)`, or use classifier_free guidance."
            )
        return BoundExits(self, cond, precision)

    def _labels(self, x_t: Tensor, t: Level) -> Tensor:
        """The label of each image, (B,), on the device of ``x_t``."""
        label = self.noise_label(t)
        if label.ndim == 0 and label.device.type == "cpu":  # filled by a kernel, without a copy to the device
            return x_t.new_full((len(x_t),), label.item())
        return label.to(x_t.device, x_t.dtype).flatten().expand(len(x_t))


@dataclass(frozen=True, eq=False)
class _WithCondition(ABC):
    """A denoiser with its condition fixed.

    Args:
        denoiser: The model.
        cond: The condition of each image.
        precision: Precision of the network.
    """

    denoiser: Denoiser
    cond: Cond
    precision: str = "fp32"

    def __repr__(self) -> str:
        """The network's class and the shapes of the condition."""
        return f"{type(self).__name__}({type(self.denoiser.backbone).__name__}, {self.cond})"


class Bound(_WithCondition):
    """A denoiser with its condition fixed: a `Denoise`."""

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        """The model's estimate with its condition."""
        estimate: Estimate = self.denoiser(x_t, t, self.cond, to=to, precision=self.precision)
        return estimate


class BoundExits(_WithCondition):
    """A denoiser with its condition fixed, and its early exit: a `DenoiseBoth`."""

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> tuple[Estimate, Estimate]:
        """The estimates of the whole network and of its early exit."""
        own, early, *_ = self.denoiser.outputs(x_t, t, self.cond, to=to, precision=self.precision)
        prediction = self.denoiser.prediction
        return prediction.estimate(x_t, own, t), prediction.estimate(x_t, early, t)


class BoundPair(_WithCondition):
    """A denoiser with two conditions for each image, evaluated together: a `DenoiseBoth`.

    Its `cond` has the conditions of all images, followed by the unconditional ones.
    """

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> tuple[Estimate, Estimate]:
        """The estimates with the first and with the second condition."""
        x, eps = self.denoiser(torch.cat([x_t, x_t]), t, self.cond, to=to, precision=self.precision)
        count = len(x_t)
        return Estimate(x[:count], eps[:count]), Estimate(x[count:], eps[count:])
