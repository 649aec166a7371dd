"""Variations: images similar to one image."""

from collections.abc import Iterator
from typing import Unpack

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.images import ImageLike
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.uses.editing import edit
from noisekiln.uses.options_by_name import SeedByName


@answering_unknown_names("arguments of uses")
def variations(
    model: Diffusion, image: ImageLike, *, strength: float = 0.5, count: int = 8, **options: Unpack[SeedByName]
) -> Iterator[Progress]:
    """Images similar to this one: `edit` without a condition.

    Args:
        model: Model of such images.
        image: One image of any kind.
        strength: Share of noise, in (0, 1]: higher is more different.
        count: Number of images.
        options: Fields of `SampleOptions`.
    """
    return edit(model, image, strength=strength, count=count, **options)
