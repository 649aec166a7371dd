"""More pixels."""

from typing import Any

from torch import Tensor

from noisekiln.diffusion import Diffusion
from noisekiln.operators.downsample import Downsample
from noisekiln.uses.picture import Pixels
from noisekiln.uses.restore import restore


def upscale(model: Diffusion, image: Pixels, factor: int = 4, *, method: str | None = None, **how: Any) -> Tensor:
    """Variants of a picture with factor x factor pixels for each of its own, whose means its pixels are.

    Args:
        model: Trained on pictures of the size that comes out, or smaller: then in tiles.
        image: (H, W, C) uint8.
        factor: How many times larger, 2 or more; any divisor of the model's size.
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.how.How`.

    Returns:
        (N, factor H, factor W, C) uint8.
    """
    if factor < 2:
        raise ValueError(f"A factor of {factor} enlarges nothing. Give 2 or more, such as 4.")
    return restore(model, image, Downsample(factor), method=method, **how)
