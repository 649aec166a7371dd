"""Undo a known damage."""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from noisekiln.components.spec import build
from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.operators.base import Operator
from noisekiln.operators.compose import Compose
from noisekiln.operators.grayscale import Grayscale
from noisekiln.uses.explain import explain
from noisekiln.uses.fit_image import as_floats


def restore(
    model: Diffusion,
    image: ImageArray,
    operator: str | Operator | Sequence[str | Operator],
    *,
    method: str | None = None,
    **how: Any,
) -> Tensor:
    """Variants of the picture as it was before an operator acted on it: deblurred, denoised, coloured, ...

    Args:
        model: Trained on such pictures, undamaged.
        image: What is left, (H, W, C) uint8.
        operator: What happened, or its spec: "blur(sigma=2)"; or several, in order.
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Returns:
        (N, H', W', C) uint8.
    """
    several = [operator] if isinstance(operator, str | Operator) else list(operator)
    what = reduce(Compose, [build(Operator, one) for one in several])
    y = as_floats(model, image)
    size, channels = _before(model, what, (y.shape[2], y.shape[3]))
    seen = Grayscale()(y) if channels == 1 and y.shape[1] == 3 else y
    return explain(model, seen, what, size=size, method=method, **how)


def _before(model: Diffusion, operator: Operator, seen: tuple[int, int]) -> tuple[tuple[int, int], int]:
    """The size of pictures of which the operator sees one of this size, and the channels of what it sees."""
    for size in (seen, model.size):  # most operators keep the size; others are asked at the model's
        try:
            probe = operator(torch.zeros(1, model.codec.channels, *size)).shape
        except ValueError:
            if size == model.size:
                raise
            continue
        if tuple(probe[2:]) == seen:
            break
    whole = (seen[0] * size[0] // probe[2], seen[1] * size[1] // probe[3])
    if whole[0] < model.size[0] or whole[1] < model.size[1]:
        raise ValueError(
            f"A picture of {seen[0]}x{seen[1]} pixels becomes one of {whole[0]}x{whole[1]} here, smaller than the "
            f"{model.size[0]}x{model.size[1]} that the model paints. Take a larger one."
        )
    return whole, probe[1]
