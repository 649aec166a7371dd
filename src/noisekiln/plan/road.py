"""Road of a run: from noise to images at once, by a cascade of small and larger images, or by latents of a codec."""

from dataclasses import dataclass, replace

import numpy as np
import torch

from noisekiln.codecs.base import Codec, Size
from noisekiln.components.spec import class_of, python_file
from noisekiln.data import DataSet, Split
from noisekiln.data.dataset import data_fingerprint
from noisekiln.objectives.base import Objective
from noisekiln.plan.chosen_components import is_trained_codec
from noisekiln.plan.defaults import with_budget
from noisekiln.plan.settings import Settings
from noisekiln.plan.task_data import GENERATE
from noisekiln.tasks.upscale import Upscale

AUTO, PIXELS, CASCADE, LATENT = "auto", "pixels", "cascade", "latent"
SMALL_SIDE = 16  # pixels of the first stage, at most
NARROW_SIDE = 8  # pixels that the shorter side keeps, at least
LARGE_SIDE = 48  # pixels from which a network of all pixels is too slow for a CPU (records/roads.json)
NOISE = 0.1  # share of noise that a stage sees on the images of the one before (records/README.md)
LAST_SHARE = 0.5  # of the budget, for the last stage; the others share the rest equally
CODEC_SHARE = 0.25  # of the budget, for the codec of latent diffusion
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

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return "{}x{} pixels".format(*self.size)


def choose_road(settings: Settings, size: Size) -> str:
    """PIXELS, CASCADE or LATENT: as requested, or for "auto" what reaches most in a short time on this device.

    Args:
        settings: Requested settings.
        size: Height and width of the images.

    Raises:
        ValueError: If a road is requested that these settings or this size do not allow.
    """
    if settings.road == CASCADE:
        _check_cascade(settings, size)
        return CASCADE
    if settings.road == LATENT or (settings.codec is not None and is_learned(settings.codec)):
        _check_latent(settings)
        return LATENT
    if settings.road == PIXELS or settings.codec is not None or max(size) < LARGE_SIDE or _obstacle(settings):
        return PIXELS
    return LATENT if with_budget(settings).device == "cpu" else PIXELS


def is_learned(codec: str) -> bool:
    """Whether a codec has to be trained, or is the folder of one that was."""
    return is_trained_codec(codec) or (python_file(codec) is None and class_of(Codec, codec).is_learned)


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
    return _with_share(settings, stage.share, image_count).replace(
        road=PIXELS,
        task=stage.task,
        size=stage.size,
        guidance=settings.guidance if stage.task == GENERATE else None,
    )


def settings_of_codec(settings: Settings, image_count: int) -> Settings:
    """The settings of the codec's run before latent diffusion, with its share of the budget.

    Args:
        settings: Settings of latent diffusion, with a budget and a codec.
        image_count: Number of training images.
    """
    return _with_share(
        settings.replace(batch_size=None, micro_batch_size=None, lr=None),
        CODEC_SHARE,
        image_count,
    )


def settings_of_latents(settings: Settings, image_count: int, *, all_of_it: bool) -> Settings:
    """The settings of the model's run in latent diffusion.

    Args:
        settings: Settings of latent diffusion, with a budget and a codec.
        image_count: Number of training images.
        all_of_it: Whether it has the whole budget, as the codec was trained before.
    """
    return settings if all_of_it else _with_share(settings, 1 - CODEC_SHARE, image_count)


def data_of_stage(data: DataSet, stage: StagePlan) -> DataSet:
    """The images at a stage's size: means of squares of pixels, as upscaling learns them."""
    while data.size != stage.size:
        data = _halved(data)
    return data


def _with_share(settings: Settings, share: float, image_count: int) -> Settings:
    """The settings with a share of the budget; of epochs, that many images."""
    images = settings.image_budget(image_count)
    return settings.replace(
        minutes=None if settings.minutes is None else settings.minutes * share,
        images=None if images is None else max(1, round(images * share)),
        epochs=None,
    )


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
    """The first setting that excludes a cascade, and for which "auto" is pixels, in words; "" if there is none."""
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


def _check_latent(settings: Settings) -> None:
    """Raise ValueError if settings exclude the training of a codec."""
    if settings.codec is not None and not is_learned(settings.codec):
        raise ValueError(
            f"`road=latent` trains a codec, but `codec={settings.codec}` has nothing to train. Omit one of them, or "
            "give the folder of a trained codec, or one such as autoencoder(factor=4)."
        )
    if settings.road == PIXELS:
        raise ValueError(f"`road=pixels` uses no codec, but `codec={settings.codec}` was given. Omit one of them.")
    for name in ("start", "teacher"):
        if getattr(settings, name) is not None:
            raise ValueError(
                f"`road=latent` trains a codec, but the model of `{name}={getattr(settings, name)}` has its own. Omit "
                "`road` and `codec`."
            )
