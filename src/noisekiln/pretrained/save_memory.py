"""Less memory for a pretrained model: parts are on the device only while they are used."""

from typing import Any

import torch
from torch import nn

from noisekiln.codecs.diffusers_autoencoder import DiffusersAutoencoder
from noisekiln.model.diffusion import Diffusion
from noisekiln.pretrained.clip_text import ClipText


def save_memory(model: Diffusion, device: torch.device) -> None:
    """Move the denoiser to a device, and the other parts only while they work; the autoencoder works in pieces.

    Args:
        model: A model on the CPU that `load_pretrained` has read.
        device: The device.
    """
    codec, conditioner = model.codec, model.conditioner
    assert isinstance(codec, DiffusersAutoencoder)
    assert isinstance(conditioner, ClipText)
    codec.network.enable_slicing()
    codec.network.enable_tiling()
    model.denoiser.to(device)
    codec.statistics.to(device)
    conditioner.to("cpu")
    for part in codec.network.children():
        move_while_used(part, device)
    for encoder in conditioner.encoders:
        move_while_used(encoder, device)


def move_while_used(module: nn.Module, device: torch.device) -> None:
    """Keep a module on the CPU, and move it to a device for each of its calls."""

    def before(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        module.to(device)

    def after(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        module.to("cpu")

    module.register_forward_pre_hook(before)
    module.register_forward_hook(after, always_call=True)
