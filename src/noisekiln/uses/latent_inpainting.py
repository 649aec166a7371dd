"""Inpainting in the latents of a codec: no gradient, and a share of the noise for a change of what is there."""

from collections.abc import Iterator
from typing import Unpack

import torch
from torch import Tensor
from torch.nn import functional as F

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.estimate import Denoise
from noisekiln.images import ImageLike, single_image
from noisekiln.inverse.replacement import Replacement
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import map_images
from noisekiln.model.sampling import Progress
from noisekiln.operators.base import Observation
from noisekiln.operators.mask import Mask
from noisekiln.uses.fit_image import as_uint8, crop_images, pad_for_codec, size_for_codec, to_x
from noisekiln.uses.image_mask import MaskLike, blend, check_mask, read_mask
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.request import SampleOptions

KNOWN_SHARE = 0.75  # of the known pixels, that known latents have to stand for


@answering_unknown_names("arguments of uses")
def inpaint_latents(
    model: Diffusion,
    image: ImageLike,
    missing: MaskLike,
    *,
    strength: float = 1.0,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Generate the missing pixels: at each step, the known latents of the estimate are replaced by the image's own.

    As image-to-image with a mask in Stable Diffusion (Lugmayr et al. 2022, eq. 8, on latents). A latent is known if all
    of its pixels are. It costs no more than sampling, where `inpaint` differentiates network and codec.

    Args:
        model: A model whose codec makes latents, such as a Stable Diffusion.
        image: One image of any kind.
        missing: As for `inpaint`.
        strength: Share of noise to begin with, above 0 and at most 1: below 1, the missing pixels are changed, and not
            made anew.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: For an invalid image, mask or option; raised by this call.
    """
    pixels, mask = as_uint8(model, single_image(image)), read_mask(missing)
    size = (pixels.shape[1], pixels.shape[2])
    check_mask(mask, size)
    padded = pad_for_codec(model, pixels[0].numpy())
    larger = (padded.shape[0], padded.shape[1])
    model.check_size(larger)
    x = to_x(model, padded)
    seen = Observation(x, Mask(_known_latents(mask, larger, x)))
    seen = seen._replace(y=seen.operator(x))

    def wrap(denoise: Denoise) -> Denoise:
        return Replacement()(denoise, seen)

    arguments = SampleOptions.of(**options).arguments()
    progress = model.generate(**arguments, size=larger, start=x, strength=strength, wrap_denoiser=wrap)
    cropped = crop_images(progress, size)
    return map_images(cropped, lambda images: blend(images, pixels.to(images.device), mask.to(images.device)))


def knows_enough(model: Diffusion, missing: Tensor) -> bool:
    """Whether the latents that are known stand for most of the known pixels, (H, W): not where these are scattered."""
    known = (missing < 0.5).float()
    padded = size_for_codec(model, (missing.shape[0], missing.shape[1]))
    latents = _known_latents(missing, padded, model.empty_x(1, padded))
    return float(latents.mean()) >= KNOWN_SHARE * float(known.mean())


def _known_latents(missing: Tensor, size: tuple[int, int], x: Tensor) -> Tensor:
    """1 for the positions of x of which no pixel is missing, (h, w)."""
    padded = F.pad(missing, (0, size[1] - missing.shape[1], 0, size[0] - missing.shape[0]))
    touched = F.adaptive_max_pool2d(padded[None, None], tuple(x.shape[2:]))[0, 0]
    return (touched < 0.5).to(device=x.device, dtype=torch.float32)
