"""The U-Net of Stable Diffusion, as diffusers has it."""

import json
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from noisekiln.backbones.base import Backbone
from noisekiln.conditions import Cond
from noisekiln.pretrained.libraries import diffusers

TEXT_TIME = "text_time"  # how the U-Net of Stable Diffusion XL reads the pooled text and the sizes of the image


class DiffusersUnet(Backbone):
    """`UNet2DConditionModel`: tokens of the text by cross-attention, whole steps of 0 to 999 as noise label.

    Where its config says ``addition_embed_type="text_time"`` (XL), it reads the pooled text too, and the size of the
    image, which is said to be neither scaled nor cropped.

    Args:
        channels: Channels of x.
        vector: Size of the pooled text, 0 if it is not read.
        tokens: Size of a token.
        image: 0: it has no input for a condition image.
        config: The network's `config.json`, as text.
        pixels: Pixels of a side that are one position of x.
    """

    def __init__(
        self, channels: int = 4, vector: int = 0, tokens: int = 768, image: int = 0, config: str = "", pixels: int = 8
    ) -> None:
        super().__init__()
        self.channels, self.image = channels, image
        self.vector, self.tokens = vector, tokens
        self.config, self.pixels = config, pixels
        if not config:
            raise ValueError(
                "`diffusers_unet` is a trained network, and cannot be made from scratch. Load one: "
                "noisekiln.load_pretrained; or train another `backbone`, such as unet."
            )
        self.network: Any = diffusers().UNet2DConditionModel.from_config(json.loads(config)).eval()

    @classmethod
    def from_folder(cls, folder: Path, vector: int, pixels: int, **how: Any) -> Self:
        """The network that diffusers has saved in a folder.

        Args:
            folder: The `unet` of a pipeline.
            vector: Size of the pooled text.
            pixels: Pixels of a side that are one position of x.
            how: Further arguments of diffusers' `from_pretrained`: torch_dtype, variant.
        """
        network = diffusers().UNet2DConditionModel.from_pretrained(folder, use_safetensors=True, **how)
        config = {name: value for name, value in network.config.items() if name != "_name_or_path"}
        text = json.dumps(config, separators=(",", ":"))
        reads = vector if config.get("addition_embed_type") == TEXT_TIME else 0
        with torch.device("meta"):  # its first weights would be drawn in vain
            made = cls(int(config["in_channels"]), reads, int(config["cross_attention_dim"]), 0, text, pixels)
        made.network = network.eval()
        return made

    def forward(self, x: Tensor, noise: Tensor, cond: Cond) -> Tensor:  # noqa: D102 (the base class says it)
        assert cond.tokens is not None
        dtype = next(self.network.parameters()).dtype
        more: dict[str, Any] = {}
        if self.vector:
            assert cond.vector is not None
            more["added_cond_kwargs"] = {"text_embeds": cond.vector.to(dtype), "time_ids": self._sizes(x).to(dtype)}
        in_half = dtype != torch.float32  # weights in 16 bits need no autocast, which would convert them at each call
        with torch.autocast(x.device.type, enabled=torch.is_autocast_enabled(x.device.type) and not in_half):
            y: Tensor = self.network(x.to(dtype), noise, cond.tokens.to(dtype), **more).sample
        return y

    def _sizes(self, x: Tensor) -> Tensor:
        """Height and width before scaling, upper left corner of the crop, height and width: (B, 6)."""
        height, width = (self.pixels * side for side in x.shape[2:])
        return x.new_tensor([height, width, 0, 0, height, width]).expand(len(x), 6)
