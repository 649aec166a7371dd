"""The noise from which deterministic sampling leads to an image."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from noisekiln.flow.inversion import invert
from noisekiln.model.diffusion import Diffusion, Size
from noisekiln.samplers.ddim import DDIM

SAMPLER = DDIM()  # the sampler that the inversion is exact for
STEPS = 40  # enough to reconstruct an image to within a grey level


@torch.no_grad()
def image_to_noise(
    model: Diffusion,
    x: Tensor,
    size: Size,
    conditions: Sequence[Any],
    *,
    steps: int | None = None,
    strength: float = 1.0,
    schedule: str | None = None,
) -> Tensor:
    """The unit noise that, added to x, `ddim` denoises to x again under its condition: (B, C', H', W').

    Args:
        model: Model of such images.
        x: Encoded images, (B, C', H', W').
        size: Height and width of the images in pixels.
        conditions: Condition of each image, None for an unconditional one.
        steps: Steps from clean to pure noise.
        strength: Share of noise to invert to, in (0, 1].
        schedule: Noise schedule; the model's by default.
    """
    levels = model.levels(schedule, STEPS if steps is None else steps, strength)
    x_t = invert(model.bind(conditions, 1.0, size), levels, x)
    noisiest = levels[0]
    return (x_t - noisiest.alpha * x) / noisiest.sigma
