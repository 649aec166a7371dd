"""From one picture to the next."""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.model.diffusion import Diffusion
from noisekiln.samplers.base import SeededNoise
from noisekiln.uses.editing import to_x
from noisekiln.uses.request import SampleOptions
from noisekiln.uses.style_transfer import STEPS, noise_of


@torch.no_grad()
def interpolate(
    model: Diffusion,
    keys: Sequence[int | ImageArray],
    *,
    frames: int = 8,
    step_done: Callable[[], None] = lambda: None,
    **how: Any,
) -> Tensor:
    """A strip of pictures from key to key, along great circles between the noises that make them.

    Args:
        model: What paints.
        keys: Two or more: seeds, or pictures (H, W, C) uint8 of the model's size, whose noise is found by inversion.
        frames: Pictures from one key up to the next, >= 1.
        step_done: Called after every step.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Returns:
        (frames * (keys - 1) + 1, H, W, C) uint8; the first and the last are the outer keys.
    """
    if len(keys) < 2 or frames < 1:
        raise ValueError(
            f"{len(keys)} keys with {frames} frames between: there is no way. Give two keys, and 1 or more."
        )
    chosen = SampleOptions(**how)
    steps = STEPS if chosen.steps is None else chosen.steps
    like = torch.empty(1, model.codec.channels, *model.size, device=next(model.parameters()).device)

    def noise(key: int | ImageArray) -> Tensor:
        if isinstance(key, int | np.integer):
            return SeededNoise([int(key)])(like)
        x = to_x(model, key)
        if x.shape != like.shape:
            raise ValueError(
                f"A picture of {x.shape[2]}x{x.shape[3]} pixels is no key for a model of {model.size}. Scale it."
            )
        first = model.levels(chosen.schedule or model.sampling.schedule, steps)[0]
        put = noise_of(model, x, chosen.wish, steps=steps, schedule=chosen.schedule)
        return (first.alpha * x + first.sigma * put) / first.norm  # as if there were nothing below it

    ends = [noise(key) for key in keys]
    path = [slerp(a, b, i / frames) for a, b in itertools.pairwise(ends) for i in range(frames)]
    settings = {**chosen.settings(), "steps": steps, "sampler": chosen.sampler or "ddim"}
    done = []
    for part in torch.cat([*path, ends[-1]]).split(chosen.batch):
        wishes = [chosen.wish] * len(part)
        for progress in model.generate(wishes, seeds=[0] * len(part), noise=part, **settings):  # noqa: B007
            step_done()
        done.append(progress.images())
    return torch.cat(done)


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Along the great circle from a (share 0) to b (share 1), whose lengths are blended too (Shoemake 1985).

    A straight line would pass where noise has too little variance to be noise.
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
