"""Image-to-image: add noise to an image and denoise it again."""

from collections.abc import Iterator
from typing import Unpack

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.images import ImageLike, single_image
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.uses.fit_image import as_uint8, crop_images, pad_for_codec, to_x
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.request import SampleOptions


@answering_unknown_names("arguments of uses")
def edit(
    model: Diffusion, image: ImageLike, *, strength: float = 0.7, **options: Unpack[OptionsByName]
) -> Iterator[Progress]:
    """Add noise to an image and remove it again under a condition (Meng et al. 2022, SDEdit).

    Args:
        model: Model of such images.
        image: One image of any kind; see `noisekiln.images.single_image`.
        strength: Share of noise, above 0 and at most 1: 0.4 changes details, 0.7 keeps the layout, 1 keeps nothing.
        options: Fields of `SampleOptions`; without a condition the images are free variations.

    Raises:
        ValueError: For an invalid image or option; raised by this call.
    """
    arguments, image = SampleOptions.of(**options).arguments(), single_image(image)
    height, width = as_uint8(model, image).shape[1:3]
    padded = pad_for_codec(model, image)
    size = (padded.shape[0], padded.shape[1])
    model.check_size(size)
    progress = model.generate(**arguments, size=size, start=to_x(model, padded), strength=strength)
    return crop_images(progress, (height, width))
