"""Inception-v3 of the Fréchet Inception distance: TensorFlow's network of 2015, with the names of its port."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

Kernel = int | tuple[int, int]
Layer = tuple[int, Kernel]  # output channels and kernel; in a block that halves the image, the last one has stride 2
WIDE, TALL = (1, 7), (7, 1)
Branches = Mapping[str, list[Layer]]  # by the name that their weights have


class NormalizedConvolution(nn.Module):
    """A convolution without bias, batch norm, ReLU.

    Args:
        inputs: Channels of the input.
        outputs: Channels of the output.
        kernel: Size of the kernel.
        stride: Stride.
        padded: Whether zeros around the image keep its size.
    """

    def __init__(self, inputs: int, outputs: int, kernel: Kernel, stride: int = 1, padded: bool = True) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (height // 2, width // 2) if padded else (0, 0)
        self.conv: nn.Conv2d = nn.Conv2d(inputs, outputs, (height, width), stride, padding, bias=False)
        self.bn: nn.Module = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C', H', W')."""
        return F.relu(self.bn(self.conv(x)), inplace=True)

    def fuse(self) -> None:
        """Fold the batch norm into the convolution."""
        if isinstance(self.bn, nn.BatchNorm2d):
            self.conv, self.bn = fuse_conv_bn_eval(self.conv, self.bn), nn.Identity()


class InceptionBlock(nn.Module):
    """Branches of convolutions side by side, and one that pools first; their outputs are concatenated in order.

    Args:
        inputs: Channels of the input.
        branches: The convolutions of each branch.
        pooled: Channels of the branch that pools; 0: its block halves the image, and pools the maximum.
        forked: Branches whose output is convolved once more by (1, 3) and by (3, 1), side by side.
        maximum: Whether the maximum is pooled; else the average, without the padding.
    """

    def __init__(
        self,
        inputs: int,
        branches: Branches,
        pooled: int,
        forked: tuple[str, ...] = (),
        maximum: bool = False,
    ) -> None:
        super().__init__()
        self.halves, self.maximum = pooled == 0, maximum
        self.names: list[tuple[list[str], list[str]]] = []
        for branch, layers in branches.items():
            channels, names = inputs, []
            for number, (outputs, kernel) in enumerate(layers, 1):
                names.append(branch if len(layers) == 1 and branch not in forked else f"{branch}_{number}")
                last = self.halves and number == len(layers)
                self.add_module(names[-1], NormalizedConvolution(channels, outputs, kernel, 2 if last else 1, not last))
                channels = outputs
            ends = [f"{branch}_{len(layers) + 1}{side}" for side in "ab"] if branch in forked else []
            for name, kernel in zip(ends, ((1, 3), (3, 1)), strict=False):
                self.add_module(name, NormalizedConvolution(channels, channels, kernel))
            self.names.append((names, ends))
        self.branch_pool = NormalizedConvolution(inputs, pooled, 1) if pooled else None

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, C', H, W), or (B, C', (H - 1) / 2, (W - 1) / 2) from a block that halves."""
        found = []
        for names, ends in self.names:
            y = x
            for name in names:
                y = self.get_submodule(name)(y)
            found += [self.get_submodule(end)(y) for end in ends] or [y]
        return torch.cat([*found, self._pool(x)], 1)

    def _pool(self, x: Tensor) -> Tensor:
        if self.branch_pool is None:
            return F.max_pool2d(x, 3, 2)
        around = F.max_pool2d(x, 3, 1, 1) if self.maximum else F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
        pooled: Tensor = self.branch_pool(around)
        return pooled


class InceptionV3(nn.Module):
    """Inception-v3 up to its 2,048 pooled features (Szegedy et al. 2016, table 1), with the port's names of weights."""

    def __init__(self) -> None:
        super().__init__()
        layer = NormalizedConvolution
        self.Conv2d_1a_3x3 = layer(3, 32, 3, stride=2, padded=False)
        self.Conv2d_2a_3x3 = layer(32, 32, 3, padded=False)
        self.Conv2d_2b_3x3 = layer(32, 64, 3)
        self.Conv2d_3b_1x1 = layer(64, 80, 1)
        self.Conv2d_4a_3x3 = layer(80, 192, 3, padded=False)
        self.Mixed_5b, self.Mixed_5c = _block_35(192, 32), _block_35(256, 64)
        self.Mixed_5d = _block_35(288, 64)
        halved: Branches = {"branch3x3": [(384, 3)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3)]}
        self.Mixed_6a = InceptionBlock(288, halved, pooled=0)
        self.Mixed_6b, self.Mixed_6c = _block_17(128), _block_17(160)
        self.Mixed_6d, self.Mixed_6e = _block_17(160), _block_17(192)
        halved = {"branch3x3": [(192, 1), (320, 3)], "branch7x7x3": [(192, 1), (192, WIDE), (192, TALL), (192, 3)]}
        self.Mixed_7a = InceptionBlock(768, halved, pooled=0)
        self.Mixed_7b, self.Mixed_7c = _block_8(1280, maximum=False), _block_8(2048, maximum=True)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 3, 299, 299) in [-1, 1] -> features (B, 2048)."""
        for name, child in self.named_children():
            x = F.max_pool2d(x, 3, 2) if name in ("Conv2d_3b_1x1", "Mixed_5b") else x
            x = child(x)
        return x.mean((2, 3))

    def fuse(self) -> None:
        """Fold every batch norm into its convolution, once all weights are loaded."""
        for module in self.modules():
            if isinstance(module, NormalizedConvolution):
                module.fuse()


def _block_35(inputs: int, pooled: int) -> InceptionBlock:
    branches: Branches = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return InceptionBlock(inputs, branches, pooled)


def _block_17(width: int) -> InceptionBlock:
    seven: list[Layer] = [(width, 1), (width, WIDE), (192, TALL)]
    double: list[Layer] = [(width, 1), (width, TALL), (width, WIDE), (width, TALL), (192, WIDE)]
    return InceptionBlock(768, {"branch1x1": [(192, 1)], "branch7x7": seven, "branch7x7dbl": double}, 192)


def _block_8(inputs: int, maximum: bool) -> InceptionBlock:
    branches: Branches = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1)],
        "branch3x3dbl": [(448, 1), (384, 3)],
    }
    return InceptionBlock(inputs, branches, 192, ("branch3x3", "branch3x3dbl"), maximum)
