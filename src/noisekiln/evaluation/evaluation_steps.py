"""The steps of an evaluation: samples, their features, scores and conclusions."""

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor

from noisekiln.components.spec import describe
from noisekiln.evaluation.class_scores import class_scores
from noisekiln.evaluation.coarse_density import coarse_density
from noisekiln.evaluation.compute import EvaluationProgress, features_of_images, sample_images
from noisekiln.evaluation.conclusions import conclude, is_good
from noisekiln.evaluation.copying import Copying, find_copies
from noisekiln.evaluation.evaluated_model import EvaluatedModel, about_codec
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.evaluation.evaluation_options import SPLITS, EvaluationOptions
from noisekiln.evaluation.evaluation_report import EvaluationReport, ReportImages
from noisekiln.evaluation.real_images import MEANINGFUL, RealImages, halvings
from noisekiln.evaluation.requested_samples import request_samples
from noisekiln.evaluation.score_table import ComparedScore, density_of_each, scores_of_features, similarity_scores
from noisekiln.features.base import FeatureExtractor

SHOWN, EXTREMES = 96, 32  # images in the report: samples and real ones; best and worst

Evaluating = Generator[EvaluationProgress, None, EvaluationReport]
"""Progress, and the report at its end."""


@dataclass(frozen=True)
class Sampled:
    """Samples to evaluate, and what is known of them.

    Attributes:
        name: Name of their model.
        images: The samples by the weights that made them, each (N, H, W, C) uint8; the first are examined closely.
        labels: Class that each sample should show, (N,) int64; None if they have none.
        originals: Images that samples should restore, (N, H, W, C) uint8; None for a model without a task.
        unseen: How many of the first originals training has not seen.
        sampling: Settings of sampling.
        images_seen: Images seen by training.
        notes: What was left out or replaced, one line each.
    """

    name: str
    images: Mapping[str, Tensor]
    labels: Tensor | None = None
    originals: Tensor | None = None
    unseen: int = 0
    sampling: Mapping[str, Any] = field(default_factory=dict)
    images_seen: int | None = None
    notes: tuple[str, ...] = ()


def sample_model(
    evaluated: EvaluatedModel,
    real: RealImages,
    options: EvaluationOptions,
    cache: EvaluationCache,
) -> Generator[EvaluationProgress, None, Sampled]:
    """Samples of each of a model's weights, with the conditions and sources of real images.

    All processes of the cache call this; each makes a share of the samples.
    """
    part, unseen = (real.pool, real.pool) if real.training is None else (real.training, real.held_out)
    requested = request_samples(evaluated.model, part, real.class_names, options.count, options.seed, unseen=unseen)
    images: dict[str, Tensor] = {}
    source = requested.source
    for weights, model in evaluated.models.items():
        count = real.count if images else options.count  # of other weights, no more than are compared
        images[weights] = yield from sample_images(
            model,
            requested.conditions[:count],
            options.seed,
            cache,
            part="samples" if len(evaluated.models) == 1 else f"samples of the {weights} weights",
            batch_size=options.batch_size,
            source=None if source is None else source[:count],
            **options.sampling,
        )
    chosen = {name: value for name, value in options.sampling.items() if value is not None}
    settings = vars(evaluated.model.sampling) | chosen | {"seed": options.seed}
    return Sampled(
        evaluated.name,
        images,
        requested.labels,
        requested.originals,
        requested.unseen,
        {name: each if isinstance(each, str | int | float) else describe(each) for name, each in settings.items()},
        evaluated.images_seen,
        (*evaluated.notes, *requested.notes, *about_codec(evaluated.model.codec)),
    )


def evaluate_samples(
    sampled: Sampled,
    real: RealImages,
    extractor: FeatureExtractor,
    options: EvaluationOptions,
    *,
    cache: EvaluationCache,
    device: str = "cpu",
) -> Evaluating:
    """Evaluate samples beside real images. All processes of the cache call this; each computes a share of the features.

    Args:
        sampled: The samples of each of the weights: `real.count` are compared, and all examined for copies.
        real: The real images.
        extractor: A fitted extractor of features.
        options: Options.
        cache: Where earlier features are found.
        device: Device that computes features.
    """
    pool = torch.from_numpy(real.pool.pixels)
    features_of = partial(features_of_images, extractor, cache=cache, device=device)
    pool_features = yield from features_of(pool, part="features of real images")
    halves, features = halvings(real.count, SPLITS, options.seed), []
    tables: list[list[ComparedScore]] = []
    for images in sampled.images.values():
        features.append((yield from features_of(images[: real.count], part="features of samples")))
        yield EvaluationProgress("scores", len(tables), len(sampled.images))
        tables.append(scores_of_features(features[-1], pool_features, halves))
    yield EvaluationProgress("copies and classes", 0, real.count)
    copying, others, notes = _compare_images(sampled, real, options, cache)
    scores = {score.name: score for score in (*tables[0], *others)}
    samples, coarse = next(iter(sampled.images.values())), None
    if not is_good(scores["density"]):
        coarse = yield from coarse_density(samples[: real.count], pool, halves[0], features_of)
    return EvaluationReport(
        name=sampled.name,
        scores=scores,
        conclusions=conclude(scores, coarse),
        count=real.count,
        real=real.shown,
        features=extractor.describe(),
        sampling=sampled.sampling,
        images_seen=sampled.images_seen,
        raw_scores={score.name: score for table in tables[1:] for score in table},
        notes=[*sampled.notes, *_about_count(real, len(samples)), *notes],
        images=_report_images(samples, pool, density_of_each(features[0], pool_features), real, copying),
    )


def _compare_images(
    sampled: Sampled, real: RealImages, options: EvaluationOptions, cache: EvaluationCache
) -> tuple[Copying | None, list[ComparedScore], list[str]]:
    """Scores that are not of features: copies, similarity to originals, classes; and what is left out of them."""
    samples, originals, unseen = next(iter(sampled.images.values())), sampled.originals, sampled.unseen
    # An image that is restored from a training image is like it, and no copy.
    examined = samples if originals is None else samples[:unseen]
    notes = []
    if originals is not None and real.training is not None and not unseen:
        notes.append("no images are held out: PSNR and SSIM are of training images, and copies are not looked for")
    elif originals is not None and unseen < len(samples):
        notes.append(f"PSNR, SSIM and copies are of {unseen:,} samples: training has seen the sources of the others")
    copying = None
    if real.training is not None and len(examined):
        copying = find_copies(examined, real.training, real.held_out)
        notes += [] if copying else ["copies were not looked for: there are too few training images"]
    similar = [] if originals is None else similarity_scores(samples[: unseen or None], originals[: unseen or None])
    classes, left_out = ([], []) if options.fast else class_scores(samples, sampled.labels, real, cache)
    return copying, [*([copying.score] if copying else []), *similar, *classes], [*notes, *left_out]


def _about_count(real: RealImages, count: int) -> list[str]:
    notes = []
    if real.count < count:
        notes.append(
            f"distances, density, coverage and diversity are of {real.count:,} of {count:,} samples: they, and as many "
            "real images, are compared with the other half of the real images"
        )
    if real.count < MEANINGFUL:
        more = f"; {2 * MEANINGFUL:,} real images are needed, such as in `against`" if real.count < count else ""
        notes.append(
            f"scores of {real.count:,} samples are mostly chance; from {MEANINGFUL} on they mean something{more}"
        )
    return notes


def _report_images(
    samples: Tensor, pool: Tensor, density: Tensor, real: RealImages, copying: Copying | None
) -> ReportImages:
    order = density.argsort(descending=True, stable=True)
    pairs = None
    if copying is not None and real.training is not None:
        rows = [(samples[row], torch.from_numpy(real.training.pixels[nearest])) for row, nearest in copying.pairs]
        pairs = torch.stack([image for pair in rows for image in pair]) if rows else None
    return ReportImages(
        samples=samples[:SHOWN],
        real=pool[:SHOWN],
        best=samples[order[:EXTREMES]],
        worst=samples[order.flip(0)[:EXTREMES]],
        pairs=pairs,
        ratios=[] if copying is None else copying.ratios,
    )
