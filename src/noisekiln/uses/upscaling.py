"""Upscaling: generate an image with more pixels."""

from collections.abc import Iterator
from typing import Unpack

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.plain_values import plain
from noisekiln.components.setting import check_argument
from noisekiln.images import ImageLike, single_image
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.operators.downsample import Downsample
from noisekiln.tasks.upscale import Upscale
from noisekiln.uses.fit_image import as_floats, as_uint8
from noisekiln.uses.inverse_problem import solve_inverse_problem
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.task_model import apply_task


@answering_unknown_names("arguments of uses")
def upscale(
    model: Diffusion,
    image: ImageLike,
    factor: int = 4,
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Images with factor x factor pixels for each of an image's own, which are their means.

    Args:
        model: Model of images of the resulting size, or smaller: then in tiles; or one trained to upscale.
        image: One image of any kind.
        factor: Upscaling factor per side, 2 or more.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: If the result would be smaller than the model's images, or the model has another factor.
    """
    factor, image = plain(factor), single_image(image)
    check_argument("factor", factor, int)
    if factor < 2:
        raise ValueError(f"`factor={factor}` enlarges nothing. Give 2 or more, such as 4.")
    y = as_floats(model, image)
    if isinstance(model.task, Upscale) and model.task.factor != factor:
        raise ValueError(
            f"`factor={factor}` was given for a model trained to upscale {model.task.factor} times. Give that factor."
        )
    if model.task is not None:
        return apply_task(model, as_uint8(model, image), Upscale, method=method, **options)
    size = (factor * y.shape[2], factor * y.shape[3])
    if size[0] < model.size[0] or size[1] < model.size[1]:
        raise ValueError(
            f"An image of {y.shape[2]}x{y.shape[3]} pixels enlarged {factor} times has {size[0]}x{size[1]}, fewer "
            f"than the model's {model.size[0]}x{model.size[1]}. Use a larger image or factor."
        )
    return solve_inverse_problem(model, y, Downsample(factor), size=size, method=method, **options)
