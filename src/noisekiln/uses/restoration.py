"""Restoration: undo known damage of an image."""

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Unpack

import torch

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.spec import build
from noisekiln.images import ImageLike, single_image
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.operators.base import Operator
from noisekiln.operators.compose import Compose
from noisekiln.operators.grayscale import Grayscale
from noisekiln.uses.fit_image import as_floats, crop_images, pad_for_codec, size_for_codec
from noisekiln.uses.inverse_problem import solve_inverse_problem
from noisekiln.uses.options_by_name import OptionsByName


@answering_unknown_names("arguments of uses")
def restore(
    model: Diffusion,
    image: ImageLike,
    operator: str | Operator | Sequence[str | Operator],
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Images as they could have been before an operator acted on them: deblurred, denoised, coloured, ...

    Args:
        model: Model of such images without damage.
        image: The damaged image, of any kind.
        operator: Operator of the damage, or its spec: "blur(sigma=2)"; or several, in order.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: If the restored image would be smaller than the model's images.
    """
    several = [operator] if isinstance(operator, str | Operator) else operator
    if not isinstance(several, Sequence) or not several:
        raise ValueError(
            f"`operator={operator!r}` is no damage. Give an operator such as `blur(sigma=2)`, or a list of them."
        )
    damage = reduce(Compose, [build(Operator, one) for one in several])
    image = single_image(image)
    y = as_floats(model, image)
    size, channels = _original_size_and_channels(model, damage, (y.shape[2], y.shape[3]))
    larger = size_for_codec(model, size)
    if size == (y.shape[2], y.shape[3]) != larger:
        y = as_floats(model, pad_for_codec(model, image))
    else:
        larger = size
    seen = Grayscale()(y) if channels == 1 and y.shape[1] == 3 else y
    return crop_images(solve_inverse_problem(model, seen, damage, size=larger, method=method, **options), size)


def _original_size_and_channels(
    model: Diffusion, operator: Operator, seen: tuple[int, int]
) -> tuple[tuple[int, int], int]:
    """Size of the images from which the operator produces one of this size, and its number of channels."""
    for size in (seen, model.size):  # most operators keep the size; the others are tested at the model's
        try:
            probe = operator(torch.zeros(1, model.codec.image_channels, *size)).shape
        except ValueError:
            if size == model.size:
                raise
            continue
        if tuple(probe[2:]) == seen:
            break
    whole = (seen[0] * size[0] // probe[2], seen[1] * size[1] // probe[3])
    if whole[0] < model.size[0] or whole[1] < model.size[1]:
        raise ValueError(
            f"An image of {seen[0]}x{seen[1]} pixels becomes one of {whole[0]}x{whole[1]} here, smaller than the "
            f"{model.size[0]}x{model.size[1]} of the model. Use a larger one."
        )
    return whole, probe[1]
