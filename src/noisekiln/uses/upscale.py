"""More pixels."""

from typing import Any

from torch import Tensor

from noisekiln.diffusion import Diffusion
from noisekiln.operators.downsample import Downsample
from noisekiln.tasks.upscale import Upscale
from noisekiln.uses.from_given import from_given
from noisekiln.uses.picture import Pixels, as_floats
from noisekiln.uses.restore import restore


def upscale(model: Diffusion, image: Pixels, factor: int = 4, *, method: str | None = None, **how: Any) -> Tensor:
    """Variants of a picture with factor x factor pixels for each of its own, whose means its pixels are.

    Args:
        model: Trained on pictures of the size that comes out, or smaller: then in tiles; or trained to upscale.
        image: (H, W, C) uint8.
        factor: How many times larger, 2 or more; any divisor of the model's size.
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.how.How`.

    Returns:
        (N, factor H, factor W, C) uint8.
    """
    if factor < 2:
        raise ValueError(f"A factor of {factor} enlarges nothing. Give 2 or more, such as 4.")
    if model.task is None:
        return restore(model, image, Downsample(factor), method=method, **how)
    if isinstance(model.task, Upscale) and model.task.factor != factor:
        raise ValueError(f"A factor of {factor} was asked of a model trained for {model.task.factor}. Ask for that.")
    small = (as_floats(model, image)[0].permute(1, 2, 0) * 255).round().byte()
    return from_given(model, small, Upscale, method=method, **how)
