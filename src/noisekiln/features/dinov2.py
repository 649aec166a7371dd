"""DINOv2 through transformers, from a local folder or the Hub: the features that many papers recommend for scores."""

import importlib
import importlib.util
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.errors import DataError, counted, listed, reason_of
from noisekiln.features.base import FeatureExtractor, colour_input
from noisekiln.files.model_folder import digest
from noisekiln.files.packages import check_packages
from noisekiln.paths import expand_home


class _LoadedDINOv2(NamedTuple):
    """A network of transformers, and the numbers of its preprocessing."""

    network: nn.Module
    version: str
    shortest_edge: int
    crop: tuple[int, int]
    mean: list[float]
    std: list[float]


@dataclass(frozen=True)
class DINOv2(FeatureExtractor):
    """The class token of a DINOv2 network after its last layer norm (Oquab et al. 2023; Stein et al. 2023).

    Images are resized and cropped by the numbers of its `preprocessor_config.json`: mostly the shorter side to 256
    (bicubic, antialiased), then the middle 224x224.

    Args:
        model: A local folder in the format of transformers, or a name on the Hub, from where transformers loads it.
    """

    model: str = "facebook/dinov2-base"

    @property
    def batch_size(self) -> int:  # noqa: D102 (the base class says it)
        return 16

    def features_of(self, images: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        loaded = _dinov2(self.model, images.device)
        if not len(images):
            return torch.zeros(0, int(loaded.network.config.hidden_size))  # type: ignore[union-attr, arg-type]  # no types there
        height, width = images.shape[1:3]
        size = tuple(loaded.shortest_edge * side // min(height, width) for side in (height, width))
        x = F.interpolate(colour_input(images), size, mode="bicubic", antialias=True, align_corners=False)
        top, left = ((side - crop) // 2 for side, crop in zip(size, loaded.crop, strict=True))
        x = x[..., top : top + loaded.crop[0], left : left + loaded.crop[1]].round().clamp(0, 255) / 255
        mean, std = (torch.tensor(each, device=x.device).view(-1, 1, 1) for each in (loaded.mean, loaded.std))
        tokens: Tensor = loaded.network(pixel_values=(x - mean) / std).last_hidden_state
        return tokens[:, 0]

    def describe(self) -> dict[str, str]:  # noqa: D102 (the base class says it)
        loaded = _dinov2(self.model, torch.device("cpu"))
        height, width = loaded.crop
        return {
            "name": f"DINOv2 {self.model}, class token",
            "version": loaded.version,
            "preprocessing": f"shorter side bicubic to {loaded.shortest_edge}, antialiased; middle {height}x{width}; "
            f"mean {loaded.mean}, deviation {loaded.std}; grey repeated",
        }


@cache
def _dinov2(model: str, device: torch.device) -> _LoadedDINOv2:
    """The network and its preprocessing, loaded once on each device.

    Raises:
        ValueError: If transformers is not installed, or cannot find the model.
        DataError: If it is another network, or lacks weights.
    """
    check_packages("`features=dinov2`", "text", "transformers")
    transformers = importlib.import_module("transformers")
    place = str(expand_home(model)) if Path(expand_home(model)).is_dir() else model
    try:
        config = transformers.AutoConfig.from_pretrained(place, trust_remote_code=False)
        numbers_file = transformers.utils.cached_file(place, "preprocessor_config.json")
        numbers = json.loads(Path(str(numbers_file)).read_text(encoding="utf-8"))
        network, report = transformers.AutoModel.from_pretrained(
            place, use_safetensors=True, output_loading_info=True, trust_remote_code=False
        )
    except (OSError, KeyError, ValueError) as error:
        raise ValueError(
            f"`model={model}`: transformers cannot load it ({reason_of(error)}). Give a folder with config.json, "
            "model.safetensors and preprocessor_config.json, or a name on the Hub while there is a network."
        ) from error
    if not config.model_type.startswith("dinov2"):
        raise DataError(model, f"it is a model of the kind {config.model_type}, not dinov2", "Give a DINOv2 model")
    if report["missing_keys"]:
        missing = sorted(report["missing_keys"])
        raise DataError(
            model,
            f"{counted(len(missing), 'tensor')} of the network have no weights there ({listed(missing, 3)})",
            "Load the model from its source again",
        )
    version = f"transformers {transformers.__version__}, sha256 {digest(network.state_dict())[:16]}"
    network = network.float().eval().requires_grad_(False).to(device)
    return _LoadedDINOv2(network, version, *_processor_numbers(model, numbers))


def _processor_numbers(model: str, numbers: Mapping[str, Any]) -> tuple[int, tuple[int, int], list[float], list[float]]:
    """The shorter side, the crop, the mean and the deviation of a processor's settings."""
    try:
        crop = (int(numbers["crop_size"]["height"]), int(numbers["crop_size"]["width"]))
        mean, std = ([float(value) for value in numbers[name]] for name in ("image_mean", "image_std"))
        shortest_edge = int(numbers["size"]["shortest_edge"])
    except (KeyError, TypeError) as error:
        raise DataError(
            model,
            f"its preprocessor_config.json has not the numbers of DINOv2's preprocessing ({reason_of(error)})",
            "It needs `size.shortest_edge`, `crop_size`, `image_mean` and `image_std`",
        ) from error
    if shortest_edge < max(crop):
        raise DataError(
            model,
            f"its preprocessing resizes the shorter side to {shortest_edge}, less than its crop of {crop[0]}x{crop[1]}",
            "Correct its preprocessor_config.json",
        )
    return shortest_edge, crop, mean, std
