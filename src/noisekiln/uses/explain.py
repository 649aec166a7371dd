"""Pictures that explain an observation: what inpainting, upscaling and restoring have in common."""

from collections.abc import Callable
from typing import Any

from torch import Tensor

from noisekiln.components.spec import build
from noisekiln.inverse.base import Inverse, clipped
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.tiling import windows
from noisekiln.operators.base import Observation, Operator
from noisekiln.samplers.base import Sampler
from noisekiln.uses.request import SampleOptions
from noisekiln.uses.samples import variants

METHOD, SAMPLER, STEPS = "moment_matching", "ddim(eta=1)", 20  # by records/README.md: near the best everywhere


def explain(
    model: Diffusion,
    y: Tensor,
    operator: Operator,
    *,
    size: tuple[int, int] | None = None,
    method: str | None = None,
    step_done: Callable[[], None] = lambda: None,
    **how: Any,
) -> Tensor:
    """Draws from p(x | y): pictures that the model finds likely, and of which the operator would have seen y.

    Args:
        model: The prior.
        y: What was seen, (1, C', H', W'), floats of [0, 1].
        operator: How it came about.
        size: Of the pictures; the model's own unless given.
        method: See `noisekiln list inverse`.
        step_done: Called after every step.
        how: Fields of `noisekiln.uses.request.SampleOptions`.

    Returns:
        (N, H, W, C) uint8.

    Raises:
        ValueError: If what was seen cannot be of pictures of this size, or a setting cannot be.
    """
    chosen, size = SampleOptions(**how), size or model.size
    windows(size, model.size)  # says what cannot be painted, before anything so large is made
    expected = tuple(operator(y.new_zeros(1, model.codec.channels, *size)).shape)
    if tuple(y.shape) != expected:
        raise ValueError(
            f"{operator} sees {_told(expected)} of a picture of {size[0]}x{size[1]} pixels; {_told(tuple(y.shape))} "
            "were given. Give what it has seen."
        )
    inverse: Inverse = build(Inverse, method or METHOD)
    seen = observe(model, y, operator)
    settings = chosen.or_else(sampler=SAMPLER, steps=STEPS)
    settings["sampler"] = inverse.adapt_sampler(build(Sampler, settings["sampler"]), seen)
    return variants(
        model,
        chosen,
        size=size,
        step_done=step_done,
        steer=lambda denoise: clipped(inverse(denoise, seen), model.codec.limits),
        **settings,
    )


def observe(model: Diffusion, y: Tensor, operator: Operator) -> Observation:
    """What an operator saw of pictures, in the units of the model's x.

    Args:
        model: Whose codec stands between.
        y: (1, ...) or (B, ...), in units of [0, 1].
        operator: How it came about.
    """
    codec = model.codec
    y = y.to(next(model.parameters()).device) / codec.scale
    return Observation(y, lambda x: operator(codec.picture(x)) / codec.scale, operator.std / codec.scale)


def _told(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[3]} pixels with {shape[1]} channel{'s' if shape[1] > 1 else ''}"
