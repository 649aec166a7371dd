"""From trained models to a cascade in a folder."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from noisekiln.cascade import Cascade
from noisekiln.diffusion import Diffusion
from noisekiln.folder import read_description
from noisekiln.tasks.upscale import Upscale


def join_stages(folders: Sequence[Path], noise: Sequence[float], *, device: str, allow_code: bool = False) -> Cascade:
    """The cascade of these models, in order.

    Args:
        folders: Of runs or models: one that paints from noise, and one or more that upscale.
        noise: How noisy each stage after the first is shown the one before; one number for all, or one each; none
            leaves them as they were trained.
        device: Where to put them.
        allow_code: Whether they may run Python files of their makers'.

    Raises:
        ValueError: If a stage cannot take what the one before it makes, or the noise.
    """
    stages = [Diffusion.load(folder, device=device, allow_code=allow_code) for folder in folders]
    later = stages[1:]
    if len(noise) not in (0, 1, len(later)):
        raise ValueError(f"{len(noise)} noises came with {len(later)} stages after the first. Give one, or one each.")
    for stage, share in zip(later, [*noise] * len(later) if len(noise) == 1 else noise, strict=False):
        if not isinstance(stage.task, Upscale):
            raise ValueError("A noise was given for a stage that does not upscale. Give none, or upscalers only.")
        stage.task = replace(stage.task, noise=share)
    return Cascade(stages).eval()


def save_cascade(cascade: Cascade, folder: Path) -> Path:
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
    cascade.save(place)
    return place
