"""Inpainting: generate the missing pixels of an image."""

from collections.abc import Iterator
from typing import Unpack

import torch
from torch.nn import functional as F

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.images import ImageLike, single_image
from noisekiln.inverse.base import Inverse
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import map_images
from noisekiln.model.sampling import Progress
from noisekiln.operators.mask import Mask
from noisekiln.samplers.resample import Resample
from noisekiln.tasks.inpaint import Inpaint
from noisekiln.uses.fit_image import as_floats, as_uint8, crop_images, pad_for_codec
from noisekiln.uses.image_mask import MaskLike, blend, check_mask, read_mask
from noisekiln.uses.inverse_problem import solve_inverse_problem
from noisekiln.uses.latent_inpainting import inpaint_latents, knows_enough
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.task_model import apply_task

RESAMPLED = 5  # times that each step of inpainting in latents is done (LOG.md)


@answering_unknown_names("arguments of uses")
def inpaint(
    model: Diffusion,
    image: ImageLike,
    missing: MaskLike,
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Generate the missing pixels of an image; the known ones do not change.

    In latents, `inpaint_latents` with `Resample` is the default: as near to the truth as solving for the pixels through
    the decoder, several times faster, and it does not diverge (LOG.md). Where hardly a latent is known, as with
    scattered pixels, and with a `method`, the pixels are solved for.

    Args:
        model: Model of such images, or one trained to inpaint them.
        image: One image of any kind; its values at missing pixels do not matter.
        missing: (H, W), 1 or True where a pixel is missing and 0 where it is known; values between are blended. Bytes
            go from 0 to 255, as in a picture of a mask; bytes of only 0 and 1 are such a mask too. Or a PIL image.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`, such as ``count=4`` or ``condition="boot"``.

    Raises:
        ValueError: If the mask has another size or other values, or no pixel or every pixel is missing.
    """
    pixels, missing = as_uint8(model, single_image(image)), read_mask(missing)
    size = (pixels.shape[1], pixels.shape[2])
    check_mask(missing, size)
    if method is None and model.task is None and model.codec.costly and knows_enough(model, missing):
        options["sampler"] = options.get("sampler") or Resample(times=RESAMPLED)
        return inpaint_latents(model, pixels, missing, **options)
    padded = pad_for_codec(model, pixels[0].numpy())
    larger = (padded.shape[0], padded.shape[1])
    known = F.pad((missing < 0.5).float(), (0, larger[1] - size[1], 0, larger[0] - size[0]))
    if model.task is None:
        operator = Mask(known)
        seen = operator(as_floats(model, padded))
        progress = solve_inverse_problem(model, seen, operator, size=larger, method=method, **options)
    else:
        with_holes = torch.cat([as_uint8(model, padded), 255 * known[None, ..., None].byte()], dim=-1)
        progress = apply_task(model, with_holes, Inpaint, method=method, **options)
    cropped = crop_images(progress, size)
    return map_images(cropped, lambda images: blend(images, pixels.to(images.device), missing.to(images.device)))
