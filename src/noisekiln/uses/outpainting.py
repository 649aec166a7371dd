"""Outpainting: extend an image beyond its edges."""

from collections.abc import Iterator
from typing import Unpack

import numpy as np
import torch

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check_argument
from noisekiln.images import ImageLike
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.uses.fit_image import as_uint8, size_for_codec
from noisekiln.uses.inpainting import inpaint
from noisekiln.uses.options_by_name import OptionsByName


@answering_unknown_names("arguments of uses")
def outpaint(
    model: Diffusion,
    image: ImageLike,
    *,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Extend an image to a larger canvas, (top + H + bottom, left + W + right); its own pixels do not change.

    Args:
        model: Model of such images.
        image: One image of any kind.
        left: Pixels to add at the left, >= 0.
        top: Pixels to add above, >= 0.
        right: Pixels to add at the right, >= 0.
        bottom: Pixels to add below, >= 0.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: If no pixels are added, or the canvas is smaller than the model's images.
    """
    sides = all_plain({"left": left, "top": top, "right": right, "bottom": bottom})
    for name, pixels in sides.items():
        check_argument(name, pixels, int)
    left, top, right, bottom = sides.values()
    if min(sides.values()) < 0 or not any(sides.values()):
        actual = ", ".join(f"`{name}={pixels}`" for name, pixels in sides.items())
        raise ValueError(f"{actual}: the image does not become larger. Give one side of 1 or more, none below 0.")
    known = as_uint8(model, image)[0].numpy()
    height, width = known.shape[:2]
    model.check_size(size_for_codec(model, (top + height + bottom, left + width + right)))
    canvas = np.pad(known, ((top, bottom), (left, right), (0, 0)))
    missing = torch.ones(canvas.shape[:2])
    missing[top : top + height, left : left + width] = 0
    return inpaint(model, canvas, missing, method=method, **options)
