"""Undo a known damage."""

from typing import Any

from torch import Tensor

from noisekiln.diffusion import Diffusion
from noisekiln.operators.base import Operator
from noisekiln.spec import build
from noisekiln.uses.explain import explain
from noisekiln.uses.picture import Pixels, as_floats


def restore(
    model: Diffusion,
    image: Pixels,
    operator: str | Operator,
    *,
    method: str | None = None,
    **how: Any,
) -> Tensor:
    """Variants of the picture as it was before an operator acted on it: deblurred, denoised, coloured, ...

    Args:
        model: Trained on such pictures, undamaged.
        image: What is left, (H, W, C) uint8.
        operator: What happened, or its spec: "blur(sigma=2)".
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.how.How`.

    Returns:
        (N, H', W', C) uint8.
    """
    what: Operator = build(Operator, operator)
    y = as_floats(model, image)
    probe = what(y.new_zeros(1, model.codec.channels, *model.size))
    if probe.shape[1] == 1:
        y = y.mean(1, keepdim=True) if y.shape[1] > 1 else y
    size = (y.shape[2] * model.size[0] // probe.shape[2], y.shape[3] * model.size[1] // probe.shape[3])
    return explain(model, y, what, size=size, method=method, **how)
