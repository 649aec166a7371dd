"""What an export to ONNX is made of: parts of a model as modules from tensors to tensors."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec, Size
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond
from noisekiln.estimate import Estimate
from noisekiln.levels import Level, level
from noisekiln.tasks.base import Task


class OnnxPart(nn.Module):
    """A function of tensors, and the module whose weights it uses.

    Args:
        weights: The module.
        compute: The function.
    """

    def __init__(self, weights: nn.Module, compute: Callable[..., Any]) -> None:
        super().__init__()
        self.weights = weights
        self.compute = compute

    def forward(self, *inputs: Tensor) -> Any:
        """What the function returns: a tensor, or several."""
        return self.compute(*inputs)


def network_part(backbone: Backbone, slots: tuple[str, ...]) -> OnnxPart:
    """X of unit variance, labels and the slots of a condition to an output of the shape of x, without early exits."""

    def compute(x: Tensor, label: Tensor, *conds: Tensor) -> Tensor:
        y: Tensor = backbone(x, label, Cond(**dict(zip(slots, conds, strict=True))))
        return y[:, : x.shape[1]]

    return OnnxPart(backbone, compute)


def conditioner_part(conditioner: Conditioner, slots: tuple[str, ...]) -> OnnxPart:
    """Ids to the slots of their `Cond`."""

    def compute(ids: Tensor) -> tuple[Tensor, ...]:
        cond = conditioner(ids)
        return tuple(getattr(cond, slot) for slot in slots)

    return OnnxPart(conditioner, compute)


def source_part(task: Task, codec: Codec, size: Size) -> OnnxPart:
    """Sources (B, h, w, c) uint8 and noise of the shape of x to the network's condition image."""
    return OnnxPart(codec, lambda source, noise: task.condition_image(source, codec, size, lambda like: noise))


def known_part(task: Task) -> OnnxPart:
    """Estimates of x and a condition image to x, with what the image fixes of it."""

    def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        return Estimate(x_t, x_t)

    return OnnxPart(nn.Identity(), lambda x, image: task.clamp_known(denoise, image)(x, level(1.0, 1.0)).x)
