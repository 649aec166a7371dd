"""Images and networks for the tests of features: from closed forms, so that no generator has to stay as it is."""

import json
from functools import cache

import pytest
import torch

from noisekiln.features.networks.inception_v3 import InceptionV3


def pattern(height, width, channels=3):
    """One image, (1, H, W, C) uint8, that has all grey levels and no symmetry."""
    y, x, c = torch.meshgrid(torch.arange(height), torch.arange(width), torch.arange(channels), indexing="ij")
    return ((7 * y * y + 11 * x + 5 * x * y + 83 * c) % 256).to(torch.uint8)[None]


def waves(height, width):
    """One smooth image in colour, (1, H, W, 3) uint8."""
    y, x, c = torch.meshgrid(torch.arange(height), torch.arange(width), torch.arange(3), indexing="ij")
    return (127 + 60 * (x / 9.0 + c).sin() + 60 * (y / 7.0 - c).cos()).round().to(torch.uint8)[None]


@cache
@torch.no_grad()
def inception_weights():
    """Weights of Inception-v3 that keep the size of its activations: sines."""
    weights = {k: v for k, v in sorted(InceptionV3().state_dict().items()) if not k.endswith("num_batches_tracked")}
    for number, (name, value) in enumerate(weights.items()):
        wave = torch.arange(value.numel(), dtype=torch.float64).mul(1.7 + number).sin().view(value.shape)
        if name.endswith("conv.weight"):
            value.copy_(wave * (6 / value[0].numel()) ** 0.5)
        else:
            value.copy_(1 + wave / 2 if name.endswith(("bn.weight", "running_var")) else wave / 5)
    return weights


def inception_file(folder):
    """A file with those weights, as the reference port's is, with the last layer that features do not need."""
    file = folder / "inception.pth"
    torch.save(inception_weights() | {"fc.weight": torch.zeros(1008, 2048), "fc.bias": torch.zeros(1008)}, file)
    return file


def dinov2_folder(folder):
    """A tiny DINOv2 in the format of transformers."""
    transformers = pytest.importorskip("transformers", reason="the extra `diffusers` is not installed")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "image_size": 28}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder)
    numbers = {"size": {"shortest_edge": 32}, "crop_size": {"height": 28, "width": 28}, "resample": 3}
    numbers |= {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
    (folder / "preprocessor_config.json").write_text(json.dumps(numbers))
    return folder
