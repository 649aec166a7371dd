"""Autoencoders of diffusers (KL, tiny, deep compression), with x standardised by one's own images."""

import json
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.blocks.latent_statistics import LatentStatistics
from noisekiln.blocks.network_from_config import network_from_config
from noisekiln.codecs.base import Codec, Size, check_channels
from noisekiln.files.json_file import read_json

KINDS = ("AutoencoderKL", "AutoencoderTiny", "AutoencoderDC")
AT_ONCE, MEASURED = 8, 256  # images in memory, and in all, when statistics are measured
SIDE = 64  # pixels of the image by which the factor is measured


class DiffusersAutoencoder(Codec):
    """``x = (encode(image) - mean) / std``, where the encoder is one of diffusers, and its mean if it is a Gaussian.

    `from_folder` reads one; `--codec FOLDER` does so for training. A model that uses it holds its weights.

    Args:
        config: The autoencoder's `config.json`, as text; "" for a codec without a network.
    """

    costly = True

    def __init__(self, config: str = "") -> None:
        super().__init__()
        self.config = config
        self.network: Any = network_from_config(config, KINDS, "an autoencoder") if config else None
        channels, self._factor = _shape_of(self.network) if config else (0, 1)
        self.statistics = LatentStatistics(channels)

    @classmethod
    def from_folder(cls, folder: Path, variant: str | None = None) -> Self:
        """The autoencoder that diffusers has saved in a folder, which is not fitted yet.

        Args:
            folder: The folder.
            variant: Variant of its weights, such as "fp16"; they become fp32.

        Raises:
            ValueError: If diffusers is not installed, or cannot read it.
        """
        try:
            codec = cls(json.dumps(read_json(folder / "config.json"), separators=(",", ":")))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{folder / 'config.json'} is none of an autoencoder ({str(error).rstrip('.')}). Give the "
                "folder of one, such as the `vae` of a Stable Diffusion."
            ) from error
        try:
            weights = type(codec.network).from_pretrained(folder, variant=variant, use_safetensors=True).state_dict()
        except (OSError, RuntimeError, KeyError) as error:
            raise ValueError(f"The autoencoder in {folder} cannot be read ({error}). Download it again.") from error
        codec.network.load_state_dict(weights)
        return codec

    def as_published(self) -> Self:
        """This codec with the statistics of its config, by which a published diffusion model knows its latents.

        ``x = (latents - shift_factor) scaling_factor``. What it loses is measured on smooth images of random colours.
        """
        config, statistics = self.network.config, self.statistics
        statistics.mean.fill_(config.get("shift_factor") or 0.0)
        statistics.std.fill_(1 / (config.get("scaling_factor") or 1.0))
        colours = torch.rand(AT_ONCE, self.image_channels, 4, 4, generator=torch.Generator().manual_seed(0))
        smooth = F.interpolate(colours, SIDE, mode="bicubic").clamp(0, 1)
        pixels = smooth.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1)
        statistics.measure_images(self._latents, self.to_image, pixels)
        return self

    @property
    def image_channels(self) -> int:  # noqa: D102 (the base class says it)
        return int(self.network.config.in_channels) if self.network is not None else 0

    @property
    def x_channels(self) -> int:  # noqa: D102 (the base class says it)
        return len(self.statistics.mean)

    @property
    def scale(self) -> float:  # noqa: D102 (the base class says it)
        return float(self.statistics.scale)

    @property
    def reconstruction_error(self) -> float:  # noqa: D102 (the base class says it)
        return float(self.statistics.error)

    def x_size(self, size: Size) -> Size:  # noqa: D102 (the base class says it)
        return size[0] // self._factor, size[1] // self._factor

    def fit(self, pixels: Tensor) -> Self:
        """This codec, its x standardised by images (N, H, W, C) uint8 if it was not before."""
        if self.network is None:
            raise ValueError("diffusers_autoencoder() has no network. Give the folder of a saved one: `codec=FOLDER`.")
        check_channels(self, pixels)
        if not self.statistics.measured:
            rows = torch.linspace(0, len(pixels) - 1, min(MEASURED, len(pixels))).round().long()
            self.statistics.measure(self._latents, self.to_image, pixels[rows], AT_ONCE)
        return self

    def encode(self, pixels: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        check_channels(self, pixels)
        return cast(Tensor, self.statistics(self._latents(pixels)))

    def _latents(self, pixels: Tensor) -> Tensor:
        return _encode(self.network, pixels.permute(0, 3, 1, 2).float() / 127.5 - 1)

    def to_image(self, x: Tensor) -> Tensor:  # noqa: D102 (the base class says it)
        image: Tensor = self.network.decode(self.statistics.restore(x)).sample
        return image / 2 + 0.5


@torch.no_grad()
def _shape_of(network: Any) -> tuple[int, int]:
    """Channels of x, and pixels of a side that become one position of it."""
    x = _encode(network, torch.zeros(1, network.config.in_channels, SIDE, SIDE))
    return int(x.shape[1]), SIDE // int(x.shape[2])


def _encode(network: Any, image: Tensor) -> Tensor:
    """The latents of images of -1 to 1, whatever this autoencoder calls them."""
    encoded = network.encode(image)
    for name in ("latents", "latent"):  # of the tiny one, and of deep compression
        found: Tensor | None = getattr(encoded, name, None)
        if found is not None:
            return found
    mode: Tensor = encoded.latent_dist.mode()
    return mode
