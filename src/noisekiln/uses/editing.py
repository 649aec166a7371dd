"""Repaint a picture, as far as one wants."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.fit_image import as_floats
from noisekiln.uses.request import SampleOptions
from noisekiln.uses.samples import variants


def edit(
    model: Diffusion,
    image: ImageArray,
    *,
    strength: float = 0.7,
    step_done: Callable[[], None] = lambda: None,
    **how: Any,
) -> Tensor:
    """Add noise to a picture and take it away again under a wish (Meng et al. 2022, SDEdit).

    Args:
        model: Trained on such pictures.
        image: (H, W, C) uint8.
        strength: Share of noise: near 0 nothing changes, 0.4 changes details, 0.7 colours, 1 keeps nothing.
        step_done: Called after every step.
        how: Fields of `noisekiln.uses.request.SampleOptions`; without a wish the variants are free.

    Returns:
        (N, H, W, C) uint8.
    """
    chosen, x = SampleOptions(**how), to_x(model, image)
    size = (x.shape[2], x.shape[3])
    return variants(model, chosen, size=size, step_done=step_done, start=x, strength=strength, **chosen.settings())


def to_x(model: Diffusion, image: ImageArray) -> Tensor:
    """A picture as the model sees it, (1, C, H, W)."""
    pixels = (as_floats(model, image) * 255).round().byte().permute(0, 2, 3, 1)
    return model.codec.encode(pixels.to(next(model.parameters()).device))
