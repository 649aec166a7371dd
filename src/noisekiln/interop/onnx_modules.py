"""What an export to ONNX is made of: parts of a model as modules from tensors to tensors."""

from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec, Size
from noisekiln.conditioners.base import Conditioner
from noisekiln.conditions import Cond
from noisekiln.estimate import Estimate
from noisekiln.levels import Level, level
from noisekiln.tasks.base import Task


class OnnxNetwork(nn.Module):
    """The network of unit-variance x, labels and the slots of a condition."""

    def __init__(self, backbone: Backbone, slots: tuple[str, ...]) -> None:
        super().__init__()
        self.backbone, self.slots = backbone, slots

    def forward(self, *inputs: Tensor) -> Tensor:
        """X of unit variance, labels and slots to the output of the shape of x."""
        x, label, *conds = inputs
        y: Tensor = self.backbone(x, label, Cond(**dict(zip(self.slots, conds, strict=True))))
        return y[:, : x.shape[1]]  # without early exits


class OnnxEmbed(nn.Module):
    """The slots of the `Cond` of ids."""

    def __init__(self, conditioner: Conditioner, slots: tuple[str, ...]) -> None:
        super().__init__()
        self.conditioner, self.slots = conditioner, slots

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Ids to slots."""
        cond = self.conditioner(*inputs)
        return tuple(getattr(cond, slot) for slot in self.slots)


class OnnxDecode(nn.Module):
    """X to images (B, C, H, W), floats of about 0 to 1."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, *inputs: Tensor) -> Tensor:
        """X to images."""
        return self.codec.to_image(*inputs)


class OnnxEncode(nn.Module):
    """Images (B, H, W, C), floats of 0 to 255, to x."""

    def __init__(self, codec: Codec) -> None:
        super().__init__()
        self.codec = codec

    def forward(self, *inputs: Tensor) -> Tensor:
        """Images to x."""
        return self.codec.encode(*inputs)


class OnnxSource(nn.Module):
    """Source images (B, h, w, c) uint8 and noise of the shape of x, to the network's condition image."""

    def __init__(self, task: Task, codec: Codec, size: Size) -> None:
        super().__init__()
        self.task, self.codec = task, codec
        self.size = size

    def forward(self, *inputs: Tensor) -> Tensor:
        """Source and noise to the condition image."""
        source, noise = inputs
        return self.task.condition_image(source, self.codec, self.size, lambda like: noise)


class OnnxKnown(nn.Module):
    """Estimates of x, with what a condition image fixes of them."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        self.task = task

    def forward(self, *inputs: Tensor) -> Tensor:
        """X and the condition image to x."""
        x, image = inputs

        def denoise(x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
            return Estimate(x_t, x_t)

        return self.task.clamp_known(denoise, image)(x, level(1.0, 1.0)).x
