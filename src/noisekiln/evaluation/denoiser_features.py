"""Features of images from the network of a run, for images that no other network knows."""

import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noisekiln.errors import DataError
from noisekiln.features.denoiser_middle import DenoiserMiddle
from noisekiln.files.model_folder import digest
from noisekiln.levels import CLEAN, Level, renoise
from noisekiln.model.diffusion import Diffusion
from noisekiln.samplers.base import SeededNoise

NOISE_TO_SIGNAL = 0.2  # so little that the images are seen, so much that the network has something to do


def denoiser_features(folder: Path, *, device: str = "cpu", allow_code: bool = False) -> DenoiserMiddle:
    """The features in the middle of a run's network, for images with a little noise, the same for each of them.

    Args:
        folder: Folder of the run: a reference, and not the run that is evaluated.
        device: Device of the network.
        allow_code: Whether it may run components from Python files of its author.

    Raises:
        ValueError: If there is no single model in the folder, or its network has no middle.
    """
    model = Diffusion.load(folder, device=device, allow_code=allow_code).requires_grad_(False)
    angle = math.atan(NOISE_TO_SIGNAL)
    level = Level(*torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64))
    noise = SeededNoise([0])(model.empty_x(1))

    def forward(images: Tensor) -> object:
        x = model.codec.encode(_resized(images.to(device), model.size))
        denoise = model.bind([None] * len(x))
        return denoise(renoise(x, CLEAN, level, noise.expand_as(x)), level)

    ramp = torch.arange(math.prod(model.size) * model.codec.image_channels).view(*model.size, -1) % 256
    images = torch.stack([torch.zeros_like(ramp), ramp]).to(torch.uint8)
    middle = _middle_of(model.denoiser.backbone, lambda: forward(images))
    if middle is None:
        raise DataError(
            f"the network of {folder}",
            "no part of it in the middle is found, which features could be read from",
            "Give a run with a U-Net or a Transformer, or other `features`",
        )
    height, width = model.size
    return DenoiserMiddle(run=str(folder)).connect(
        forward,
        middle,
        channels=model.codec.image_channels,
        version=f"sha256 {digest(model.state_dict())[:16]}",
        preprocessing=f"bilinear to {height}x{width}, antialiased; noise-to-signal ratio {NOISE_TO_SIGNAL}",
    )


@torch.no_grad()
def _middle_of(network: nn.Module, run: Callable[[], object]) -> nn.Module | None:
    """The block that is called once and puts out the fewest places; of several, the one in the middle of the calls.

    Blocks, which have parts: the output of a single layer may have lost what features are read from, as that of a norm
    has. What is the same for different images, such as the keys of a prompt's words, says nothing about them.

    Args:
        network: The network.
        run: Runs it on images that differ.
    """
    calls: list[tuple[int, nn.Module]] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim not in (3, 4) or module is network:
            return
        if any(module.children()) and not torch.equal(output[0], output[1]):
            calls.append((math.prod(output.shape[2:]) if output.ndim == 4 else output.shape[1], module))

    handles = [module.register_forward_hook(note) for module in network.modules()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    times = Counter(id(module) for _, module in calls)
    once = [(places, module) for places, module in calls if times[id(module)] == 1 and places > 1]
    fewest = min((places for places, _ in once), default=0)
    smallest = [module for places, module in once if places == fewest]
    return smallest[len(smallest) // 2] if smallest else None


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, H, W, C) uint8 in (height, width)."""
    if tuple(images.shape[1:3]) == tuple(size):
        return images
    x = images.permute(0, 3, 1, 2).float()
    x = F.interpolate(x, tuple(size), mode="bilinear", antialias=True, align_corners=False)
    return x.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
