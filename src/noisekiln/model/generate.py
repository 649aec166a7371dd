"""The sampling loop: steps of a batch, batches of a request, and the images that come out."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from noisekiln.components.limits import MOST_IMAGES, check_at_most
from noisekiln.components.plain_values import plain
from noisekiln.components.setting import check_argument
from noisekiln.errors import NotFinite, counted
from noisekiln.estimate import Denoise, Estimate
from noisekiln.images import Images
from noisekiln.levels import Level, NoiseSource
from noisekiln.model.sampling import Decode, Progress, UsedSampling
from noisekiln.samplers.base import Sampler, sample

Conditions = int | str | Sequence[Any] | NDArray[Any] | Tensor
"""A number of unconditional images, a single prompt or class, or the condition of each image."""


@torch.no_grad()
def generate_batch(
    denoise: Denoise, sampler: Sampler, levels: Sequence[Level], x: Tensor, noise: NoiseSource, decode: Decode
) -> Iterator[Progress]:
    """Sample one batch, step by step.

    Args:
        denoise: The model with conditions and guidance.
        sampler: The method.
        levels: Levels from noisy to clean.
        x: The batch at the first level, (B, C', H', W').
        noise: Source of fresh noise.
        decode: Function from x to images.

    Raises:
        NotFinite: If the result is not finite.
    """
    steps, last = len(levels) - 1, _LastEstimate(denoise)
    for step, x_s in enumerate(sample(last, sampler, levels, x, noise), 1):
        if step == steps and not bool(x_s.isfinite().all()):
            raise NotFinite(
                "Sampling produced NaN or infinite values. Use a lower `guidance` or a weaker adapter, or other "
                "`steps` and another `sampler`. If all of them fail, train the model with a lower `lr`."
            )
        yield Progress(step, steps, x_s, decode, 0, len(x), step == steps, denoised=last.x)


@dataclass(eq=False)
class _LastEstimate:
    """A denoiser whose latest estimate of the clean batch is kept: a `Denoise`."""

    denoise: Denoise
    x: Tensor | None = None

    def __call__(self, x_t: Tensor, t: Level, *, to: Level | None = None) -> Estimate:
        estimate = self.denoise(x_t, t, to=to)
        self.x = estimate.x.detach()
        return estimate


def generate_in_batches(
    generate: Callable[[range], Iterator[Progress]], count: int, batch_size: int | Callable[[], int]
) -> Iterator[Progress]:
    """One request of many images, batch after batch, with steps counted over all of them.

    The first batch is prepared by this call, so that invalid settings raise here, and not at the first `next`.

    Args:
        generate: Function that samples the images with these indices as one batch; all batches have the same number of
            steps.
        count: Images in all.
        batch_size: Images sampled at once; it changes only speed and memory. A function that finds it is called by the
            first `next`, and this call prepares a batch of one image instead.

    Raises:
        ValueError: If there would be no image; errors of `generate` are passed on.
    """
    size = batch_size if callable(batch_size) else plain(batch_size)
    _check_count(count)
    if not callable(size):
        check_argument("batch_size", size, int)
        if size < 1:
            raise ValueError(
                f"`batch_size={size}`: at least one image is sampled at once. Give 1 or more; 64 is common."
            )
    with torch.no_grad():
        first = generate(range(1 if callable(size) else min(size, count)))
    return _joined(first, generate, count, size)


@torch.no_grad()
def _joined(
    first: Iterator[Progress],
    generate: Callable[[range], Iterator[Progress]],
    count: int,
    batch_size: int | Callable[[], int],
) -> Iterator[Progress]:
    known = not callable(batch_size)
    size = batch_size() if callable(batch_size) else batch_size
    parts = [range(start, min(start + size, count)) for start in range(0, count, size)]
    for number, part in enumerate(parts):
        for progress in first if known and number == 0 else generate(part):
            steps = progress.steps
            yield replace(
                progress, step=number * steps + progress.step, steps=len(parts) * steps, start=part.start, count=count
            )


def with_used(progress: Iterable[Progress], used: UsedSampling | None) -> Iterator[Progress]:
    """The same progress, with the settings that were used."""
    for each in progress:
        yield replace(each, used=used)


def map_images(progress: Iterable[Progress], change: Callable[[Tensor], Tensor]) -> Iterator[Progress]:
    """The same progress, its images changed after decoding.

    Args:
        progress: Progress of a request.
        change: Function from images to images, (B, H, W, C) uint8.
    """
    for each in progress:
        yield replace(each, decode=partial(_decode_and_change, each.decode, change))


def _decode_and_change(decode: Decode, change: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return change(decode(x))


def finished_images(progress: Iterable[Progress]) -> Images:
    """All finished images of a request: (N, H, W, C) uint8."""
    return Images.of(torch.cat([each.images() for each in progress if each.finished]))


def resolve_seeds(conditions: Conditions, seed: int, seeds: Sequence[int] | None) -> tuple[Sequence[Any], list[int]]:
    """The condition and the seed of every image of a request.

    Args:
        conditions: Condition of each image, None for an unconditional one; text is a single condition; or the number
            of unconditional images.
        seed: Seed of the first image; image i uses seed + i.
        seeds: Seed of each image, instead.

    Raises:
        ValueError: If there are not as many seeds as conditions, or no number and no list of conditions.
    """
    values, seed = _values(plain(conditions)), plain(seed)
    check_argument("seed", seed, int)
    chosen = [seed + i for i in range(len(values))] if seeds is None else [plain(each) for each in _seed_list(seeds)]
    if len(chosen) != len(values):
        several, seeded = counted(len(values), "condition"), counted(len(chosen), "seed")
        raise ValueError(f"`seeds`: {seeded} for {several} cannot be matched. Give one seed for each image.")
    for each in chosen:
        check_argument("seeds", each, int)
    return values, chosen


def _values(conditions: Any) -> Sequence[Any]:
    """The condition of every image of a request."""
    if isinstance(conditions, str):
        return [conditions]
    if isinstance(conditions, Integral):
        _check_count(int(conditions))
        return [None] * int(conditions)
    try:
        len(conditions)
    except TypeError as error:
        raise ValueError(
            f"{conditions!r} is neither a number of images nor a list of conditions, so nothing can be generated. "
            "Give a whole number, or a list with the condition of each image."
        ) from error
    return [plain(value) for value in conditions]


def _seed_list(seeds: Any) -> list[Any]:
    """The seeds of a request, one by one."""
    try:
        return list(seeds)
    except TypeError as error:
        raise ValueError(
            f"`seeds={seeds!r}` is no list of seeds. Give one whole number for each image, or the first as `seed`."
        ) from error


def _check_count(count: int) -> None:
    if count < 1:
        raise ValueError(f"{count} images were requested: there is nothing to generate. Give 1 or more.")
    check_at_most("count", count, MOST_IMAGES)


def rows_of_batch(tensor: Tensor, part: range) -> Tensor:
    """The rows of one batch, from a tensor with one row per image or a single row for all.

    Args:
        tensor: (count, ...) or (1, ...).
        part: Indices of the batch's images.
    """
    return tensor.expand(len(part), *tensor.shape[1:]) if len(tensor) == 1 else tensor[part.start : part.stop]


def check_rows(tensor: Tensor | None, shape: tuple[int, ...], count: int, name: str) -> None:
    """Raise ValueError for a tensor with other rows than one of the shape for each image, or one for all.

    Args:
        tensor: The tensor; None if none was given.
        shape: Shape of x, (C', H', W').
        count: Images in all.
        name: Name of the argument, for the message.
    """
    if tensor is None:
        return
    if not isinstance(tensor, Tensor) or not tensor.is_floating_point():
        kind = tensor.dtype if isinstance(tensor, Tensor) else type(tensor).__name__
        raise ValueError(
            f"`{name}`: {kind} was given, and it is x, in the model's units. Give a tensor of floats, (images, "
            f"{', '.join(map(str, shape))}), such as `codec.encode` returns; or an image to `noisekiln.edit`."
        )
    if len(tensor) not in (1, count) or tuple(tensor.shape[1:]) != shape:
        raise ValueError(
            f"`{name}`: the shape {tuple(tensor.shape)} was given for {counted(count, 'image')}, each of the shape "
            f"{shape} in the model's units. Give one row for each image, or one for all."
        )


def wrapped(denoise: Denoise, wrap: Callable[[Denoise], Denoise]) -> Denoise:
    """A denoiser wrapped by a function of the caller; raises ValueError if that is none, or returns none."""
    inner: Any = wrap(denoise) if callable(wrap) else wrap
    if not callable(inner):
        raise ValueError(
            f"`wrap_denoiser`: a {type(inner).__name__} cannot be called as a denoiser. Give a function from one "
            "denoiser to another: `wrap_denoiser=lambda denoise: denoise` changes nothing."
        )
    result: Denoise = inner
    return result
