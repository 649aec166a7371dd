"""Road of a run: from noise to images at once, or by a cascade of small images and larger ones of them."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from noisekiln.codecs.base import Size
from noisekiln.components.spec import class_of
from noisekiln.data import DataSet, Split
from noisekiln.data.dataset import data_fingerprint
from noisekiln.objectives.base import Objective
from noisekiln.plan.defaults import with_budget
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.tasks.upscale import Upscale

AUTO, PIXELS, CASCADE = "auto", "pixels", "cascade"
SMALL_SIDE = 16  # pixels of the first stage, at most
NARROW_SIDE = 8  # pixels that the shorter side keeps, at least
CASCADE_SIDE, CASCADE_MINUTES = 48, 30.0  # on a CPU a cascade is the default from this side, up to this budget
NOISE = 0.1  # share of noise that a stage sees on the images of the one before (records/README.md)
# From CASCADE_SIDE on, where a short budget holds few steps of the default network and batch (LOG.md).
LARGE_BATCH_SIZE, LARGE_MODEL = 16, "xs"
LAST_SHARE = 0.5  # of the budget, for the last stage; the others share the rest equally
AT_ONCE = 1024  # images that are made small at once


@dataclass(frozen=True)
class StagePlan:
    """One stage of a cascade.

    Attributes:
        size: Height and width of its images.
        task: Its task: GENERATE for the first, otherwise the upscaling of the stage before.
        share: Share of the whole budget.
    """

    size: Size
    task: str
    share: float


def choose_road(settings: Settings, size: Size) -> str:
    """PIXELS or CASCADE: as requested, or for "auto" what reaches more in a short time on this device.

    A single model serves every use, so it is the default where it has the time to become good.

    Args:
        settings: Requested settings.
        size: Height and width of the images.

    Raises:
        ValueError: If a cascade is requested that these settings or this size do not allow.
    """
    if settings.road == CASCADE:
        _check_cascade(settings, size)
        return CASCADE
    if settings.road == PIXELS or max(size) < CASCADE_SIDE or len(cascade_stages(size)) < 2 or _obstacle(settings):
        return PIXELS
    budgeted = with_budget(settings)
    short = budgeted.minutes is not None and budgeted.minutes <= CASCADE_MINUTES
    return CASCADE if short and budgeted.device == "cpu" else PIXELS


def cascade_stages(size: Size) -> tuple[StagePlan, ...]:
    """The stages of a cascade, smallest images first: each has half the sides of the next."""
    step, sizes = Upscale(factor=2), [size]
    while max(sizes[0]) > SMALL_SIDE and min(step.source_size(sizes[0])) >= NARROW_SIDE:
        sizes.insert(0, step.source_size(sizes[0]))
    before = len(sizes) - 1
    upscale = f"upscale(factor=2, noise={NOISE})"
    return tuple(
        StagePlan(
            size=each,
            task=upscale if number else GENERATE,
            share=1.0 if not before else LAST_SHARE if number == before else (1 - LAST_SHARE) / before,
        )
        for number, each in enumerate(sizes)
    )


def settings_of_stage(settings: Settings, stage: StagePlan, image_count: int) -> Settings:
    """The settings of a stage's own run, with its share of the budget.

    Args:
        settings: Settings of the cascade, with a budget.
        stage: The stage.
        image_count: Number of training images.
    """
    images, large = settings.image_budget(image_count), stage.task != GENERATE and max(stage.size) >= CASCADE_SIDE
    own_network = settings.model != "auto" or settings.backbone is not None
    return settings.replace(
        batch_size=settings.batch_size or (LARGE_BATCH_SIZE if large else None),
        model=LARGE_MODEL if large and not own_network else settings.model,
        road=PIXELS,
        task=stage.task,
        minutes=None if settings.minutes is None else settings.minutes * stage.share,
        images=None if images is None else max(1, round(images * stage.share)),
        epochs=None,
        size=stage.size,
        guidance=settings.guidance if stage.task == GENERATE else None,
    )


def data_of_stage(data: DataSet, stage: StagePlan) -> DataSet:
    """The images at a stage's size: means of squares of pixels, as upscaling learns them."""
    while data.size != stage.size:
        data = _halved(data)
    return data


def _halved(data: DataSet) -> DataSet:
    train, held_out = _halved_split(data.train), None if data.held_out is None else _halved_split(data.held_out)
    fingerprint = data_fingerprint((train, held_out), data.class_names)
    return replace(data, train=train, held_out=held_out, fingerprint=fingerprint)


def _halved_split(part: Split) -> Split:
    unused = torch.Generator()
    chunks = (part.pixels[start : start + AT_ONCE] for start in range(0, len(part), AT_ONCE))
    small = [Upscale(factor=2).observe(torch.from_numpy(np.ascontiguousarray(chunk)), unused) for chunk in chunks]
    return replace(part, pixels=torch.cat(small).numpy())


def _obstacle(settings: Settings) -> str:
    """The first setting that a cascade cannot have, in words; "" if there is none."""
    if settings.task != GENERATE:
        return f"`task={settings.task}` starts from images, not from noise"
    if settings.start is not None:
        return f"`start={settings.start}` is a single model"
    if settings.codec not in (None, "pixels"):
        return f"`codec={settings.codec}` makes images small in its own way"
    if class_of(Objective, settings.objective).needs_teacher:
        return f"`objective={settings.objective}` distils a single model"
    return ""


def _check_cascade(settings: Settings, size: Size) -> None:
    obstacle = _obstacle(settings)
    if obstacle:
        raise ValueError(f"`road=cascade` trains several models, but {obstacle}. Omit one of them.")
    if len(cascade_stages(size)) < 2:
        raise ValueError(
            f"`road=cascade`: images of {size[0]}x{size[1]} pixels are small enough to be generated at once. "
            f"Omit `road`, or give a larger `size`: more than {SMALL_SIDE} on one side, {2 * NARROW_SIDE} on both."
        )
