"""The same picture as something else."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from noisekiln.files.pictures import ImageArray
from noisekiln.flow.inversion import invert
from noisekiln.model.diffusion import Diffusion
from noisekiln.uses.editing import to_x
from noisekiln.uses.request import SampleOptions
from noisekiln.uses.samples import variants

STEPS = 40


@torch.no_grad()
def style(
    model: Diffusion,
    image: ImageArray,
    *,
    like: str | int | None = None,
    strength: float = 0.95,
    painter: Diffusion | None = None,
    step_done: Callable[[], None] = lambda: None,
    **how: Any,
) -> Tensor:
    """Go back from a picture to the noise that makes it, and paint that noise under another wish.

    What the two wishes have in common is kept: position, size, darkness. Deterministic, so there is one variant.

    Args:
        model: Trained on such pictures.
        image: (H, W, C) uint8.
        like: What the picture shows: a class or prompt of the model's; None for nothing in particular.
        strength: How far back: 0.7 for another colour, 0.95 for another class; 1 is pure noise, and keeps least.
        painter: Another model that paints from the noise, of the same size and channels; the same unless given.
        step_done: Called after every step.
        how: Fields of `noisekiln.uses.request.SampleOptions`; `wish` is what it shall become.

    Returns:
        (1, H, W, C) uint8.
    """
    if how.get("sampler") not in (None, "ddim"):
        raise ValueError(
            f"sampler={how['sampler']!r}: the way back is ddim's, and so is the way forward. Leave it away."
        )
    chosen = SampleOptions(**{**how, "count": 1})
    painter = painter or model
    if (painter.size, painter.codec.channels) != (model.size, model.codec.channels):
        raise ValueError(
            f"The second model paints {_told(painter)} and the first {_told(model)}, so the noise of one says nothing "
            "to the other. Give two models of one size."
        )
    x = to_x(model, image)
    size = (x.shape[2], x.shape[3])
    steps = STEPS if chosen.steps is None else chosen.steps
    noise = noise_of(model, x, like, steps=steps, strength=strength, schedule=chosen.schedule)
    settings = {**chosen.or_else(steps=STEPS), "sampler": "ddim"}  # the way back was ddim's
    start = to_x(painter, image)
    noise = noise.to(start)  # the painter may be on another device
    return variants(
        painter, chosen, size=size, step_done=step_done, start=start, strength=strength, noise=noise, **settings
    )


def noise_of(
    model: Diffusion,
    x: Tensor,
    wish: str | int | None,
    *,
    steps: int,
    strength: float = 1.0,
    schedule: str | None = None,
) -> Tensor:
    """The noise from which, put onto x, `ddim` paints x under a wish: (B, C, H, W)."""
    levels = model.levels(schedule or model.sampling.schedule, steps, strength)
    denoise = model.bind([wish] * len(x), 1.0, (x.shape[2], x.shape[3]))
    x_t = invert(denoise, levels, x)
    at = levels[0]
    return (x_t - at.alpha * x) / at.sigma


def _told(model: Diffusion) -> str:
    return f"{model.size[0]}x{model.size[1]} pixels with {model.codec.channels} channels"
