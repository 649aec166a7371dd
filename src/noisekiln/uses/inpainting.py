"""Paint what is missing."""

from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.operators.mask import Mask
from noisekiln.tasks.inpaint import Inpaint
from noisekiln.uses.explain import explain
from noisekiln.uses.fit_image import as_floats
from noisekiln.uses.task_model import from_given


def inpaint(
    model: Diffusion, image: ImageArray, missing: Tensor | NDArray[Any], *, method: str | None = None, **how: Any
) -> Tensor:
    """Variants of a picture in which the missing pixels are painted, and the known ones are exactly as they were.

    Args:
        model: Trained on such pictures, or to inpaint them.
        image: (H, W, C) uint8; what it shows where pixels are missing does not matter.
        missing: (H, W), 1 where a pixel is missing and 0 where it is known; in between, painted and given are mixed.
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.request.SampleOptions`, such as ``count=4`` or ``wish="boot"``.

    Returns:
        (N, H, W, C) uint8.

    Raises:
        ValueError: If the mask is of another size, or nothing or everything is missing.
    """
    given, missing = as_floats(model, image), torch.as_tensor(missing)
    size = (given.shape[2], given.shape[3])
    if tuple(missing.shape) != size:
        told = "x".join(map(str, missing.shape))
        raise ValueError(f"The mask has {told} pixels and the picture {size[0]}x{size[1]}. Give a mask as large as it.")
    missing = missing.float().clamp(0, 1)
    known = (missing < 0.5).float()
    if not bool((missing > 0).any()):
        raise ValueError(
            "The mask is empty: no pixel is missing, so there is nothing to paint. Mark what shall change."
        )
    if bool((missing == 1).all()):
        raise ValueError("The mask is full: no pixel is known. Leave some, or use `sample`.")
    kept = (given * 255).round().permute(0, 2, 3, 1).to(torch.uint8)
    if model.task is None:
        operator = Mask(known)
        painted = explain(model, operator(given), operator, size=size, method=method, **how)
    else:
        with_holes = torch.cat([kept[0], 255 * known[..., None].byte()], dim=-1)
        painted = from_given(model, with_holes, Inpaint, method=method, **how)
    share = missing[..., None]
    mixed = (share * painted.float().cpu() + (1 - share) * kept.float()).round().to(torch.uint8)
    return torch.where(share == 0, kept, mixed)
