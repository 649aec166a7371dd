"""Style transfer: the same image under another condition, or by another model."""

from collections.abc import Iterator
from functools import partial
from typing import Any, Unpack

import torch
from torch import Tensor

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.as_spec import as_spec
from noisekiln.components.plain_values import plain
from noisekiln.components.spec import describe
from noisekiln.files.pictures import ImageArray
from noisekiln.images import ImageLike, single_image
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.uses.fit_image import as_uint8, crop_images, pad_for_codec, single_model, to_x
from noisekiln.uses.image_to_noise import SAMPLER, STEPS, invert_and_generate, prepare_inversion
from noisekiln.uses.options_by_name import SeedByName
from noisekiln.uses.request import SampleOptions


@answering_unknown_names("arguments of uses")
def style(
    model: Diffusion,
    image: ImageLike,
    *,
    source_condition: Any = None,
    strength: float = 0.95,
    target_model: Diffusion | None = None,
    **options: Unpack[SeedByName],
) -> Iterator[Progress]:
    """Invert an image to the noise that leads to it, and sample from that noise under another condition.

    Features that the two conditions share are kept: position, size, darkness. Deterministic, so there is one result.

    Args:
        model: Model of such images.
        image: One image of any kind.
        source_condition: Condition of the image, a class or prompt of the model; None for no condition.
        strength: How far to invert: 0.7 for another colour, 0.95 for another class; 1 is pure noise.
        target_model: Model that samples from the noise, of the same size and channels; the same model by default.
        options: Fields of `SampleOptions`; `condition` is that of the result.

    Raises:
        ValueError: For models that differ in size or in the shape of x, and for invalid options.
    """
    chosen = _checked_options(options)
    target = _checked_target(model, model if target_model is None else target_model)
    strength, pixels = plain(strength), as_uint8(model, single_image(image))[0].numpy()
    padded = _padded(model, target, pixels)
    size = (padded.shape[0], padded.shape[1])
    target.check_conditions([chosen.condition])
    inversion = prepare_inversion(
        model,
        to_x(model, padded),
        size,
        [source_condition],
        steps=chosen.steps,
        strength=strength,
        schedule=chosen.schedule or model.sampling.schedule,
        precision=chosen.precision,
    )
    start = to_x(target, padded)
    arguments = chosen.arguments(steps=STEPS) | {"sampler": SAMPLER}
    generate = partial(target.generate, **arguments, size=size, start=start, strength=strength)
    generate(noise=torch.zeros_like(start))  # raises for invalid options, before the inversion

    def generate_result(noisiest: list[Tensor]) -> Iterator[Progress]:
        return generate(noise=inversion.unit_noise(noisiest[0]).to(start))

    progress = invert_and_generate([inversion], generate_result, steps=inversion.steps, count=1)
    return crop_images(progress, (pixels.shape[0], pixels.shape[1]))


def _checked_options(options: SeedByName) -> SampleOptions:
    sampler = options.get("sampler")
    if sampler is not None and as_spec("sampler", sampler) != describe(SAMPLER):
        raise ValueError(f"`sampler={sampler}`: the image is inverted with ddim, and sampled with the same. Omit it.")
    return SampleOptions.of(**{**options, "count": 1})


def _checked_target(model: Diffusion, target: Diffusion) -> Diffusion:
    """The model that samples, if noise of the first model is noise of it too."""
    single_model(model)
    single_model(target)
    if _size_of(target) != _size_of(model):
        raise ValueError(
            f"The second model generates {_size_of(target)} and the first {_size_of(model)}, so they share no noise. "
            "Give two models of one size."
        )
    if _x_shape(target) != _x_shape(model):
        raise ValueError(
            f"The codec of the second model has x of the shape {_x_shape(target)} and that of the first "
            f"{_x_shape(model)}, so they share no noise. Give two models whose x has one shape."
        )
    return target


def _padded(model: Diffusion, target: Diffusion, image: ImageArray) -> ImageArray:
    """The image as large as the codec needs it, if both models can generate this size."""
    padded = pad_for_codec(model, image)
    for each in (model, target):
        each.check_size((padded.shape[0], padded.shape[1]))
    return padded


def _size_of(model: Diffusion) -> str:
    channels = model.codec.image_channels
    return f"{model.size[0]}x{model.size[1]} pixels with {channels} channel{'s' if channels > 1 else ''}"


def _x_shape(model: Diffusion) -> tuple[int, int, int]:
    """Channels, height and width."""
    return (model.codec.x_channels, *model.codec.x_size(model.size))
