"""Joining of trained models to a cascade."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.errors import WouldOverwrite, counted
from noisekiln.files.atomic import atomic_folder
from noisekiln.files.model_folder import read_description
from noisekiln.files.system_files import entries_of
from noisekiln.model.cascade import Cascade
from noisekiln.model.diffusion import Diffusion
from noisekiln.paths import expand_home
from noisekiln.tasks.upscale import Upscale


@answering_unknown_names("settings")
def cascade(
    stages: Sequence[str | Path | Diffusion],
    *,
    noise: float | Sequence[float] | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Cascade:
    """Join models to one that generates small images, then upscales them; it samples and saves like a single model.

    Args:
        stages: Models in order, one that generates from noise and one or more with a task: folders of runs, or
            models, which are not changed.
        noise: Share of noise that each stage after the first sees on the images of the one before, in [0, its task's
            `most`]: one number for all, or one each; None for the values that they were trained with.
        out: Folder to save the cascade in: new, empty, or of an earlier cascade, which is replaced; or None.
        device: Device for stages that are loaded; models stay where they are.
        allow_code: Whether stages that are loaded may run Python files that they name.

    Raises:
        ValueError: If a stage cannot read the images of the one before it, or a share of noise is invalid.
        WouldOverwrite: If `out` holds something else.
    """
    if isinstance(stages, str | Path | Diffusion):
        stages = [stages]  # refused with the number of models that are needed
    models = [
        copy.copy(stage)
        if isinstance(stage, Diffusion)
        else Diffusion.load(stage, device=device, allow_code=allow_code)
        for stage in stages
    ]
    joined = Cascade(models).eval()
    _set_noise(models[1:], noise)
    if out is not None:
        save_cascade(joined, expand_home(out))
    return joined


def save_cascade(model: Cascade, folder: Path) -> Path:
    """Write a cascade to `model/` in a folder: new, empty, or of an earlier cascade, which is replaced.

    Raises:
        WouldOverwrite: If the folder holds something else.
    """
    place = folder / "model"
    occupied = folder.is_file() or (folder.exists() and bool(entries_of(folder)))
    if occupied and not ((place / "model.json").is_file() and "cascade" in read_description(place / "model.json")):
        raise WouldOverwrite(folder, "something that is not a cascade")
    with atomic_folder(place) as draft:
        model.save(draft)
    return place


def _set_noise(later: Sequence[Diffusion], noise: float | Sequence[float] | None) -> None:
    """Set the share of noise of the stages after the first."""
    if noise is None:
        return
    shares = [noise] * len(later) if isinstance(noise, int | float) else [*noise]
    if len(shares) != len(later):
        raise ValueError(
            f"`noise` has {counted(len(shares), 'share')} for {counted(len(later), 'stage')} after the first. "
            "Give one for all, or one each."
        )
    for stage, share in zip(later, shares, strict=True):
        if not isinstance(stage.task, Upscale):
            raise ValueError("`noise` was given for a stage that does not upscale. Omit it, or join upscalers only.")
        most = stage.task.most
        check_argument("noise", share, float)
        if not 0 <= share <= most:
            raise ValueError(
                f"`noise={share}` is not possible: this stage has learned shares of noise from 0 to {most:g}. "
                "Give one of these, or train the stage with a larger `most`: `task=upscale(most=0.9)`."
            )
        stage.task = replace(stage.task, noise=float(share))
