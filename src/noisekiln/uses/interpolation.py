"""Interpolation: a sequence of images from one to the next."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Unpack

import numpy as np
import torch
from torch import Tensor

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.plain_values import plain
from noisekiln.components.setting import check_argument
from noisekiln.errors import counted
from noisekiln.files.pictures import ImageArray
from noisekiln.images import ImageLike, single_image
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import BATCH_SIZE, Progress
from noisekiln.samplers.base import SeededNoise
from noisekiln.uses.fit_image import as_uint8, single_model, to_x
from noisekiln.uses.image_to_noise import SAMPLER, STEPS, Inversion, invert_and_generate, prepare_inversion
from noisekiln.uses.options_by_name import SamplingByName
from noisekiln.uses.request import SampleOptions

Key = int | ImageLike


@answering_unknown_names("arguments of uses")
def interpolate(
    model: Diffusion, keys: Sequence[Key], *, frames: int = 8, **options: Unpack[SamplingByName]
) -> Iterator[Progress]:
    """A sequence of images from key to key, along great circles between the noises that lead to them.

    Args:
        model: The model.
        keys: Two or more key frames: seeds, or images of the model's size, whose noise is found by
            inversion.
        frames: Images from one key frame to the next, >= 1; frames * (keys - 1) + 1 in all, with the first and last
            key.
        options: Fields of `SampleOptions`, apart from `count` and `seed`.

    Raises:
        ValueError: For fewer than two keys, an image of another size, or an invalid option.
    """
    single_model(model)
    if not isinstance(keys, Sequence | np.ndarray | Tensor) or isinstance(keys, str):
        raise ValueError(
            f"`keys`: a {type(keys).__name__} is no list of key frames. Give two or more: seeds, images, or both."
        )
    read, frames = [_read_key(key) for key in keys], plain(frames)
    check_argument("frames", frames, int)
    if len(read) < 2 or frames < 1:
        raise ValueError(
            f"{counted(len(read), 'key')} with `frames={frames}` from one to the next are no sequence. "
            "Give two keys, and 1 frame or more."
        )
    count = frames * (len(read) - 1) + 1
    chosen = SampleOptions.of(**{**options, "count": count})
    model.check_conditions([chosen.condition])
    inversions = {i: _inversion(model, key, chosen) for i, key in enumerate(read) if not isinstance(key, int)}
    ends = {i: SeededNoise([key])(model.empty_x(1)) for i, key in enumerate(read) if isinstance(key, int)}
    generate = partial(model.generate, **chosen.arguments(steps=STEPS, sampler=SAMPLER), seeds=[0] * count)
    generate(noise=torch.zeros_like(model.empty_x(1)))  # raises for invalid options, before the inversions
    levels = model.levels(chosen.schedule, chosen.steps or STEPS)

    def generate_path(noisiest: list[Tensor]) -> Iterator[Progress]:
        inverted = [x_t / levels[0].norm for x_t in noisiest]  # sampling starts from pure noise
        noises = ends | dict(zip(inversions, inverted, strict=True))
        path = [
            slerp(noises[key], noises[key + 1], frame / frames)
            for key in range(len(read) - 1)
            for frame in range(frames)
        ]
        return generate(noise=torch.cat([*path, noises[len(read) - 1]]))

    batches = -(-count // (chosen.batch_size or BATCH_SIZE))
    steps = (len(levels) - 1) * batches
    return invert_and_generate(list(inversions.values()), generate_path, steps=steps, count=count)


def _read_key(key: Any) -> int | ImageArray:
    """A seed, or an image (H, W, C)."""
    seed = plain(key) if getattr(key, "ndim", None) == 0 else key
    return seed if isinstance(seed, int) and not isinstance(seed, bool) else single_image(seed)


def _inversion(model: Diffusion, key: ImageArray, options: SampleOptions) -> Inversion:
    """The inversion of an image that is a key."""
    height, width = as_uint8(model, key).shape[1:3]
    if (height, width) != model.size:
        raise ValueError(
            f"An image of {height}x{width} pixels cannot be a key of a model of {model.size[0]}x{model.size[1]}. "
            "Scale it first."
        )
    return prepare_inversion(
        model,
        to_x(model, key),
        model.size,
        [options.condition],
        steps=options.steps,
        schedule=options.schedule,
        precision=options.precision,
    )


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation from a (share 0) to b (share 1), with interpolated length (Shoemake 1985).

    Linear interpolation would give noise of too small a variance.
    """
    lengths = a.norm(), b.norm()
    angle = torch.acos((a * b).sum().div(lengths[0] * lengths[1]).clamp(-1, 1))
    if float(angle) < 1e-4:
        return a + share * (b - a)
    unit = (torch.sin((1 - share) * angle) * a / lengths[0] + torch.sin(share * angle) * b / lengths[1]) / torch.sin(
        angle
    )
    between: Tensor = unit * ((1 - share) * lengths[0] + share * lengths[1])
    return between
