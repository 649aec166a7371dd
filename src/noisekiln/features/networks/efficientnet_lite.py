"""EfficientNet-Lite0, for inference: batch norms are folded into the convolutions."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-3  # of the batch norms
# Blocks, expansion, kernel, stride, channels of each stage (Tan & Le 2019, table 1); Lite has no squeeze-excitation.
STAGES = [
    (1, 1, 3, 1, 16),
    (2, 6, 3, 2, 24),
    (2, 6, 5, 2, 40),
    (3, 6, 3, 2, 80),
    (3, 6, 5, 1, 112),
    (4, 6, 5, 2, 192),
    (1, 6, 3, 1, 320),
]


class SamePadded(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: at stride 2 there is one pixel more on the right and below.

    Args:
        inputs: Channels of the input; its sides must be multiples of the stride.
        outputs: Channels of the output.
        kernel: Side of the kernel.
        stride: Stride.
        depthwise: Whether each channel has a kernel of its own.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, depthwise: bool = False) -> None:
        before = (kernel - stride) // 2
        self.uneven = kernel - stride - 2 * before
        super().__init__(inputs, outputs, kernel, stride, before, groups=inputs if depthwise else 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C', H / stride, W / stride)."""
        return super().forward(F.pad(x, (0, self.uneven, 0, self.uneven)) if self.uneven else x)


class InvertedBottleneck(nn.Module):
    """Expand, convolve each channel, project; the input is added where the shapes agree.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        expansion: Channels in between, as a multiple of `inputs`.
        kernel: Side of the kernel.
        stride: Stride.
    """

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        middle = inputs * expansion
        self.expand = SamePadded(inputs, middle, 1) if expansion > 1 else None
        self.convolve = SamePadded(middle, middle, kernel, stride, depthwise=True)
        self.project = SamePadded(middle, outputs, 1)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C', H / stride, W / stride)."""
        y: Tensor = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.convolve(y), inplace=True))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 up to its pooled features (Tan & Le 2019; Lite: ReLU6, no squeeze-and-excitation)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SamePadded(3, 32, 3, stride=2)
        blocks, channels = [], 32
        for count, expansion, kernel, stride, outputs in STAGES:
            for number in range(count):
                blocks.append(InvertedBottleneck(channels, outputs, expansion, kernel, 1 if number else stride))
                channels = outputs
        self.blocks = nn.Sequential(*blocks)
        self.head = SamePadded(channels, 1280, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images (B, 3, H, W), sides multiples of 32 -> features (B, 1280)."""
        last: Tensor = self.head(self.blocks(F.relu6(self.stem(x), inplace=True)))
        return F.relu6(last, inplace=True).mean((2, 3))

    @torch.no_grad()
    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights of lukemelas' naming, convolutions and batch norms in the order of the network.

        A convolution and the batch norm behind it become one: ``w g / sqrt(var + e)``, ``b - mean g / sqrt(var + e)``.
        """
        convolutions = [each for each in self.modules() if isinstance(each, nn.Conv2d)]
        kernels = [value for value in weights.values() if value.ndim == 4]
        norms = [name.removesuffix(".running_var") for name in weights if name.endswith(".running_var")]
        for convolution, kernel, norm in zip(convolutions, kernels, norms, strict=True):
            assert convolution.bias is not None
            scale = weights[f"{norm}.weight"].double() / (weights[f"{norm}.running_var"].double() + EPSILON).sqrt()
            convolution.weight.copy_(kernel * scale.view(-1, 1, 1, 1))
            convolution.bias.copy_(weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale)
