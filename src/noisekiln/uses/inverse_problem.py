"""Inverse problems: images that agree with the observation of an operator."""

from collections.abc import Iterator
from math import hypot
from typing import Unpack

import torch
from torch import Tensor

from noisekiln.components.spec import build, describe
from noisekiln.estimate import Denoise
from noisekiln.inverse.base import Inverse, clipped
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Progress
from noisekiln.operators.base import Observation, Operator
from noisekiln.samplers.base import Sampler
from noisekiln.uses.options_by_name import OptionsByName
from noisekiln.uses.request import SampleOptions

CODEC_ERRORS = 2.0  # of the codec's error, as noise: errors of neighbouring pixels are alike, noise is not
METHOD, SAMPLER, STEPS = "moment_matching", "ddim(eta=1)", 20  # by records/README.md: near the best everywhere


def solve_inverse_problem(
    model: Diffusion,
    y: Tensor,
    operator: Operator,
    *,
    size: tuple[int, int] | None = None,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Iterator[Progress]:
    """Samples of p(x | y): images that are likely under the model and from which the operator produces y.

    Args:
        model: The prior.
        y: The observation, (1, C', H', W'), floats of [0, 1].
        operator: Operator that produced the observation.
        size: Height and width of the images; the model's by default.
        method: Inverse method or its spec; see `noisekiln list inverse`.
        options: Fields of `SampleOptions`.

    Raises:
        ValueError: If the operator produces observations of another shape, or for an invalid option.
    """
    chosen, size = SampleOptions.of(**options), size or model.size
    model.check_size(size)
    expected = tuple(operator(y.new_zeros(1, model.codec.image_channels, *size)).shape)
    if tuple(y.shape) != expected:
        raise ValueError(
            f"{operator} produces {_pixels(expected)} from an image of {size[0]}x{size[1]} pixels, but "
            f"{_pixels(y.shape)} were given. Give the observation without resizing it."
        )
    inverse: Inverse = build(Inverse, method or METHOD)
    if inverse.backward and torch.is_inference_mode_enabled():
        raise ValueError(
            f"`method={describe(inverse)}` differentiates the network, and torch.inference_mode() forbids that. "
            "Use torch.no_grad() instead of it, or a method that needs no gradient, such as `method=replacement`."
        )
    seen = observe(model, y, operator, size)
    arguments = chosen.arguments(sampler=SAMPLER, steps=STEPS)
    arguments["sampler"] = inverse.adapt_sampler(build(Sampler, arguments["sampler"]), seen)

    def wrap(denoise: Denoise) -> Denoise:
        return clipped(inverse(denoise, seen), model.codec.limits)

    return model.generate(**arguments, size=size, wrap_denoiser=wrap)


def observe(model: Diffusion, y: Tensor, operator: Operator, size: tuple[int, int]) -> Observation:
    """The observation of an operator on images, in the units of the model's x.

    What a codec cannot reproduce counts as noise of the observation: without that, x would be driven far away from all
    images in search of what no x can show.

    Args:
        model: The model, with its codec.
        y: Observation, (1, ...) or (B, ...), floats of [0, 1].
        operator: Operator that produced the observation.
        size: Height and width of the images; the codec may pad them.
    """
    codec, operator = model.codec, operator.to(model.device)

    def observe_x(x: Tensor) -> Tensor:
        return operator(codec.to_image(x)[..., : size[0], : size[1]]) / codec.scale

    std = hypot(operator.std, CODEC_ERRORS * codec.reconstruction_error)
    return Observation(y.to(model.device) / codec.scale, observe_x, std / codec.scale)


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[2]}x{shape[3]} pixels with {shape[1]} channel{'s' if shape[1] > 1 else ''}"
