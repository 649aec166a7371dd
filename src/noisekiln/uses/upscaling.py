"""More pixels."""

from typing import Any

from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.operators.downsample import Downsample
from noisekiln.tasks.upscale import Upscale
from noisekiln.uses.explain import explain
from noisekiln.uses.fit_image import as_floats
from noisekiln.uses.task_model import from_given


def upscale(model: Diffusion, image: ImageArray, factor: int = 4, *, method: str | None = None, **how: Any) -> Tensor:
    """Variants of a picture with factor x factor pixels for each of its own, whose means its pixels are.

    Args:
        model: Trained on pictures of the size that comes out, or smaller: then in tiles; or trained to upscale.
        image: (H, W, C) uint8.
        factor: How many times larger, 2 or more.
        method: See `noisekiln list inverse`.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Returns:
        (N, factor H, factor W, C) uint8.
    """
    if factor < 2:
        raise ValueError(f"A factor of {factor} enlarges nothing. Give 2 or more, such as 4.")
    small = (as_floats(model, image)[0].permute(1, 2, 0) * 255).round().byte()
    if model.task is None:
        y = as_floats(model, image)
        size = (factor * y.shape[2], factor * y.shape[3])
        if size[0] < model.size[0] or size[1] < model.size[1]:
            raise ValueError(
                f"A picture of {y.shape[2]}x{y.shape[3]} pixels enlarged {factor} times has {size[0]}x{size[1]}, fewer "
                f"than the {model.size[0]}x{model.size[1]} that the model paints. Take a larger picture or factor."
            )
        return explain(model, y, Downsample(factor), size=size, method=method, **how)
    if isinstance(model.task, Upscale) and model.task.factor != factor:
        raise ValueError(f"A factor of {factor} was asked of a model trained for {model.task.factor}. Ask for that.")
    return from_given(model, small, Upscale, method=method, **how)
