"""Weights that come with noisekiln: autoencoders of drawn images, from which those of one's own images start.

`tools/starting_weights.py` draws the images and trains them. They are no pretrained model of pictures: shapes, lines,
letters and clouds in random colours teach what edges and textures are, and how few numbers tell them.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from noisekiln.codecs.autoencoder import Autoencoder
from noisekiln.distributed.ranks import Ranks

FOLDER = Path(__file__).with_name("weights")
COLOURS = 3  # channels of the images that were drawn
AT_ONCE = 16  # images in memory at once


def starting_weights_file(codec: Autoencoder) -> Path:
    """The file of the weights for a codec of these settings, which need not exist."""
    return FOLDER / f"factor{codec.factor}_channels{codec.channels}_width{codec.width}.safetensors"


def has_starting_weights(codec: Autoencoder) -> bool:
    """Whether weights for a codec of these settings come with noisekiln."""
    return starting_weights_file(codec).is_file()


@torch.no_grad()
def load_starting_weights(codec: Autoencoder, images: Tensor, ranks: Ranks = Ranks()) -> None:
    """Give an untrained autoencoder the weights that come with noisekiln, fitted to the statistics of images.

    The decoder expects latents that were standardised over drawn images; in training they are standardised over the
    user's. Its first layer takes up the difference, so that training starts from what the weights can do.

    Args:
        codec: A codec of colour or grey images for which there is a file.
        images: Some of the training images, (N, H, W, C) uint8.
        ranks: Processes that train together: all use the statistics of the first.
    """
    assert codec.encoder is not None
    assert codec.decoder is not None
    weights = {name: weight.float() for name, weight in load_file(starting_weights_file(codec)).items()}
    if codec.image_channels == 1:
        weights |= _for_grey(weights)
    for part in ("encoder", "decoder"):
        state = {name.removeprefix(f"{part}."): weight for name, weight in weights.items() if name.startswith(part)}
        getattr(codec, part).load_state_dict(state)
    device = codec.statistics.mean.device
    latents = torch.cat([codec.latents(rows.to(device)).cpu() for rows in images.split(AT_ONCE)])
    std, mean = torch.std_mean(latents, dim=(0, 2, 3), correction=0)
    std, mean = ranks.all_gather(torch.stack([std, mean]).unsqueeze(0), ranks.world_size)[0].to(device)
    drawn_mean, drawn_std = (weights[f"statistics.{name}"].flatten().to(device) for name in ("mean", "std"))
    first = codec.decoder.conv_in
    assert first.bias is not None
    first.bias += (first.weight * ((mean - drawn_mean) / drawn_std).view(1, -1, 1, 1)).sum((1, 2, 3))
    first.weight *= (std / drawn_std).view(1, -1, 1, 1)


def _for_grey(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The layers that face images, for grey ones: these are colour images of three equal channels."""
    into, out = weights["encoder.conv_in.weight"], weights["decoder.conv_out.weight"]
    bias = weights["decoder.conv_out.bias"]
    return {
        "encoder.conv_in.weight": into.unflatten(1, (-1, COLOURS)).sum(2),
        "decoder.conv_out.weight": out.unflatten(0, (-1, COLOURS)).mean(1),
        "decoder.conv_out.bias": bias.unflatten(0, (-1, COLOURS)).mean(1),
    }
