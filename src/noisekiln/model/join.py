"""From trained models to a cascade, and into a folder."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from noisekiln.files.model_folder import read_description
from noisekiln.model.cascade import Cascade
from noisekiln.model.diffusion import Diffusion
from noisekiln.tasks.upscale import Upscale


def cascade(
    stages: Sequence[str | Path | Diffusion],
    *,
    noise: float | Sequence[float] | None = None,
    out: str | Path | None = None,
    device: str = "cpu",
    allow_code: bool = False,
) -> Cascade:
    """Join models to one that paints small, then upscales; `sample` and `save` are as of a single model.

    Args:
        stages: In order, one that paints from noise and one or more with a task: folders of runs, or models, which
            are left as they are.
        noise: How noisy each stage after the first is shown the one before, a share in [0, its task's `most`]: one
            number for all, or one each; None leaves them as they were trained.
        out: Folder to save the cascade in: new, empty, or of an earlier cascade, which is replaced; None for nowhere.
        device: Where to put stages that are loaded; models stay where they are.
        allow_code: Whether stages that are loaded may run Python files of their makers'.

    Raises:
        ValueError: If a stage cannot take what the one before it makes, or the noise, or `out` holds something else.
    """
    models = [
        copy.copy(stage)
        if isinstance(stage, Diffusion)
        else Diffusion.load(stage, device=device, allow_code=allow_code)
        for stage in stages
    ]
    joined = Cascade(models).eval()
    _weaken(models[1:], noise)
    if out is not None:
        save_cascade(joined, Path(out))
    return joined


def save_cascade(model: Cascade, folder: Path) -> Path:
    """Write it to `model/` in a folder: new, empty, or of an earlier cascade, which is replaced.

    Raises:
        ValueError: If the folder holds something else.
    """
    place = folder / "model"
    there = folder.is_file() or (folder.exists() and any(folder.iterdir()))
    if there and not ((place / "model.json").is_file() and "cascade" in read_description(place / "model.json")):
        raise ValueError(
            f"{folder} holds something that is no cascade. It might be overwritten. Choose a new folder with --out."
        )
    model.save(place)
    return place


def _weaken(later: Sequence[Diffusion], noise: float | Sequence[float] | None) -> None:
    """Tell the stages after the first how noisy they are shown what they are given."""
    if noise is None:
        return
    shares = [noise] * len(later) if isinstance(noise, int | float) else [*noise]
    if len(shares) != len(later):
        raise ValueError(f"{len(shares)} noises came with {len(later)} stages after the first. Give one, or one each.")
    for stage, share in zip(later, shares, strict=True):
        if not isinstance(stage.task, Upscale):
            raise ValueError("A noise was given for a stage that does not upscale. Give none, or upscalers only.")
        stage.task = replace(stage.task, noise=share)
