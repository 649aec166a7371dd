"""Samples and features of an evaluation: shared out over processes, kept for the next evaluation, with progress."""

from collections.abc import Generator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_balanced
from noisekiln.evaluation.evaluated_model import model_key
from noisekiln.evaluation.evaluation_cache import EvaluationCache, content_key
from noisekiln.features.base import FeatureExtractor
from noisekiln.files.array_cache import key_of
from noisekiln.model.model import Model
from noisekiln.session.write_samples import generate_on_ranks

KEPT_TOGETHER = 128  # samples of each process in a file: an interrupted evaluation goes on after the last whole file
AT_ONCE = 256  # images between two steps of progress


class EvaluationProgress(NamedTuple):
    """Progress of a part of an evaluation.

    Attributes:
        part: What is done: "samples of the averaged weights", "features of samples", ...
        done: Images so far.
        total: Images in all.
    """

    part: str
    done: int
    total: int


Computing = Generator[EvaluationProgress, None, Tensor]
"""Progress, and the result at its end."""


def sample_images(
    model: Model,
    conditions: Sequence[Any],
    first_seed: int,
    cache: EvaluationCache,
    *,
    part: str,
    batch_size: int | None,
    source: Tensor | None = None,
    **options: Any,
) -> Computing:
    """One image for each condition, (N, H, W, C) uint8; image i has the seed `first_seed` + i.

    Args:
        model: The model, the same in all processes.
        conditions: Condition of each image.
        first_seed: Seed of the first image.
        cache: Where earlier images are found, and the processes that share the work.
        part: What this is called in the progress.
        batch_size: Images sampled at once by each process; None for as many as memory holds, up to 64.
        source: Source of each image, for a model with a task.
        options: Other arguments of the model's `generate`.
    """
    total, made, together = len(conditions), [], KEPT_TOGETHER * cache.ranks.world_size
    shown = [repr(each) for each in conditions]
    key = key_of(model_key(model), sorted(options.items()), first_seed, "" if source is None else content_key(source))
    for start in range(0, total, together):
        rows = range(start, min(start + together, total))
        name = f"samples-{key_of(key, rows, shown[start : rows.stop])}"
        images = cache.read(name, (len(rows), *model.size, model.codec.image_channels), torch.uint8)
        if images is None:
            images = yield from _sample_part(
                model, conditions, rows, first_seed, part, batch_size, source, cache.ranks, options
            )
            cache.keep(name, images)
        made.append(images)
        yield EvaluationProgress(part, rows.stop, total)
    return torch.cat(made)


def _sample_part(
    model: Model,
    conditions: Sequence[Any],
    rows: range,
    first_seed: int,
    part: str,
    batch_size: int | None,
    source: Tensor | None,
    ranks: Ranks,
    options: dict[str, Any],
) -> Computing:
    """The images with these indices."""
    made = []
    seeds = [first_seed + row for row in rows]
    own = slice(rows.start, rows.stop)
    progress = generate_on_ranks(
        model,
        conditions[own],
        seeds,
        ranks,
        batch_size=batch_size,
        source=None if source is None else source[own],
        **options,
    )
    for each in progress:
        if each.finished:
            made.append(each.images().cpu().as_subclass(Tensor))
        yield EvaluationProgress(part, rows.start + len(rows) * each.step // each.steps, len(conditions))
    return torch.cat(made)


def features_of_images(
    extractor: FeatureExtractor,
    images: Tensor,
    cache: EvaluationCache,
    *,
    part: str,
    device: str = "cpu",
) -> Computing:
    """Features of images, (N, D).

    Args:
        extractor: A fitted extractor, the same in all processes.
        images: Images, (N, H, W, C) uint8.
        cache: Where earlier features are found, and the processes that share the work.
        part: What this is called in the progress.
        device: Device that computes them.
    """
    name = f"features-{key_of(sorted(extractor.describe().items()), content_key(images))}"
    features = cache.read(name, (len(images), None), torch.float32)
    if features is not None:
        return features
    ranks = cache.ranks
    share = split_balanced(len(images), ranks.world_size)[ranks.rank]
    own, done = images[share.start : share.stop], []
    for start in range(0, max(len(own), 1), AT_ONCE):
        done.append(extractor.extract(own[start : start + AT_ONCE].to(device)))
        finished = min(start + AT_ONCE, len(own))
        yield EvaluationProgress(part, min(finished * ranks.world_size, len(images)), len(images))
    features = ranks.all_gather(torch.cat(done), len(images))
    cache.keep(name, features)
    return features
