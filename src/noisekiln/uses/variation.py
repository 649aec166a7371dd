"""More of the same kind."""

from typing import Any

from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.editing import edit


def variations(model: Diffusion, image: ImageArray, *, strength: float = 0.5, count: int = 8, **how: Any) -> Tensor:
    """Pictures like this one: `edit` without a wish.

    Args:
        model: Trained on such pictures.
        image: (H, W, C) uint8.
        strength: How unlike they may be, in (0, 1].
        count: How many.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Returns:
        (N, H, W, C) uint8.
    """
    return edit(model, image, strength=strength, count=count, **how)
