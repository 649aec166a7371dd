"""Paint what lies beyond the edge."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.tiling import windows
from noisekiln.uses.inpainting import inpaint


def outpaint(
    model: Diffusion, image: ImageArray, *, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0, **how: Any
) -> Tensor:
    """Variants of a picture on a larger canvas; in it every given pixel is exactly as it was.

    Args:
        model: Trained on such pictures.
        image: (H, W, C) uint8.
        left: ImageArray to add at this side; likewise the others.
        top: Above.
        right: At the right.
        bottom: Below.
        how: As for `inpaint`.

    Returns:
        (N, top + H + bottom, left + W + right, C) uint8.

    Raises:
        ValueError: If nothing is added, or the canvas is still smaller than what the model paints.
    """
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    if min(sides.values()) < 0 or not any(sides.values()):
        told = ", ".join(f"{name} {pixels}" for name, pixels in sides.items())
        raise ValueError(
            f"Nothing can be painted around the picture with {told}. Give one side of 1 or more, none below 0."
        )
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    windows((top + image.shape[0] + bottom, left + image.shape[1] + right), model.size)  # says what cannot be painted
    canvas = np.pad(image, ((top, bottom), (left, right), (0, 0)))
    missing = torch.ones(canvas.shape[:2])
    missing[top : top + image.shape[0], left : left + image.shape[1]] = 0
    return inpaint(model, canvas, missing, **how)
