"""Pictures from a model into a folder."""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from noisekiln.distributed.ranks import Ranks
from noisekiln.distributed.shares import split_evenly
from noisekiln.files.pictures import ImageArray, enlarged, save_picture, tile, to_pil
from noisekiln.model.cascade import Model
from noisekiln.model.diffusion import Diffusion

INDEX = "samples.json"
OURS = ("grid.png", "strip.png", "animation.gif", "animation.webp")


@dataclass(frozen=True)
class Painted:
    """One picture, as `samples.json` lists it; `class` there is `label` here."""

    file: str
    seed: int
    label: int | None
    class_name: str | None
    prompt: str | None


def repeated(wishes: Sequence[str | int | None], count: int | None) -> tuple[list[str | int | None], int]:
    """`count` wishes in all, each wish in a run of its own, and how many columns show them one row a wish.

    Unless a count is given there are 16 of a single wish, and 8 of each of several.

    Raises:
        ValueError: If the count is below 1.
    """
    if count is not None and count < 1:
        raise ValueError(f"-n {count}: there is nothing to paint. Ask for 1 image or more.")
    if count is None:
        count = 16 if len(wishes) == 1 else 8 * len(wishes)
    shared = [wishes[i * len(wishes) // count] for i in range(count)]
    row = count // len(wishes)
    return shared, row if len(wishes) > 1 and row * len(wishes) == count else round(count**0.5)


def paint(
    model: Model,
    wishes: Sequence[str | int | None],
    seeds: Sequence[int],
    folder: Path,
    *,
    columns: int = 8,
    batch: int = 64,
    step_done: Callable[[], None] = lambda: None,
    given: Tensor | None = None,
    ranks: Ranks | None = None,
    **settings: Any,
) -> ImageArray:
    """Paint the wishes into a folder: 00000.png, ..., grid.png and samples.json.

    What is finished is kept when it is interrupted: pictures are written batch by batch. Several processes paint a
    batch each at a time, and the first one writes.

    Args:
        model: What paints.
        wishes: One an image, as `Diffusion.generate` takes them.
        seeds: One an image.
        folder: Where; new, empty, or of earlier samples, which are replaced.
        columns: Of the grid.
        batch: Images painted at once, by each process.
        step_done: Called after every step.
        given: What each image starts from, for a model with a task, as `Diffusion.generate` takes it.
        ranks: The processes that paint together; each calls this.
        settings: Of `Diffusion.generate`.

    Returns:
        The images, (N, H, W, C) uint8.

    Raises:
        ValueError: If the folder holds something else, or the wishes or settings cannot be.
    """
    ranks = ranks or Ranks()
    model.bind(list(dict.fromkeys(wishes)))  # all of them can be understood, those of the last batch too
    folder.mkdir(parents=True, exist_ok=True)
    earlier = earlier_samples(folder)
    done: list[ImageArray] = []
    listed: list[Painted] = []
    try:
        for start in range(0, len(wishes), batch * ranks.world_size):
            numbers = range(start, min(start + batch * ranks.world_size, len(wishes)))
            own = split_evenly(len(numbers), ranks.world_size)[ranks.rank]
            mine = numbers[own.start : own.stop]
            painted = _batch(model, wishes, seeds, mine, given, step_done, **settings)
            images = ranks.all_gather(painted, len(numbers)).numpy()
            done.append(images)
            if not ranks.is_main:
                continue
            if start == 0:  # only now: a setting that cannot be has cost nobody their earlier samples
                for file in earlier:
                    file.unlink(missing_ok=True)
            listed += [_painted(model, f"{i:05d}.png", seeds[i], wishes[i]) for i in numbers]
            _write_index(folder, listed)  # first, so that every picture is known for a sample
            for i, image in zip(numbers, images, strict=True):
                to_pil(image).save(folder / f"{i:05d}.png")
    finally:
        if done and ranks.is_main:
            save_picture(tile(np.concatenate(done), columns), folder / "grid.png", at_least=512)
    return np.concatenate(done)


def _batch(
    model: Model,
    wishes: Sequence[str | int | None],
    seeds: Sequence[int],
    numbers: range,
    given: Tensor | None,
    step_done: Callable[[], None],
    **settings: Any,
) -> Tensor:
    """The images of some numbers."""
    images = torch.zeros(0, *model.size, model.codec.channels, dtype=torch.uint8)
    if not numbers:  # there are more processes than images
        return images
    part = slice(numbers.start, numbers.stop)
    shown: dict[str, Any] = {} if given is None else {"given": given[part]}
    for progress in model.generate(wishes[part], seeds=seeds[part], **shown, **settings):
        step_done()
        last = progress
    return last.images().cpu()


def _painted(model: Model, file: str, seed: int, wish: str | int | None) -> Painted:
    conditioner = model.conditioner
    if wish is None or conditioner is None:
        return Painted(file, seed, None, None, None)
    if not conditioner.choices:
        return Painted(file, seed, None, None, str(wish))
    label = int(conditioner.encode([wish])[0])
    return Painted(file, seed, label, conditioner.choices[label], None)


def _write_index(folder: Path, listed: list[Painted]) -> None:
    told = [{("class" if name == "label" else name): value for name, value in asdict(p).items()} for p in listed]
    (folder / INDEX).write_text(json.dumps(told, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def earlier_samples(folder: Path) -> list[Path]:
    """The earlier samples in a folder; raises ValueError if it holds anything else."""
    there = sorted(folder.iterdir())
    samples = {INDEX, *OURS, *_listed(folder / INDEX)} if (folder / INDEX).is_file() else set()
    others = [file.name for file in there if file.name not in samples]
    if others:
        raise ValueError(
            f"{folder} holds files that are no samples ({', '.join(others[:3])}). They might be overwritten. "
            "Choose an empty or new folder with --out."
        )
    return there


def _listed(index: Path) -> list[str]:
    """The pictures in a `samples.json`; only names such as we give."""
    try:
        files = [str(entry["file"]) for entry in json.loads(index.read_text(encoding="utf-8"))]
    except (ValueError, KeyError, TypeError):
        return []
    return [file for file in files if re.fullmatch(r"\d{5,}\.png", file)]


def keep(
    model: Diffusion,
    images: ImageArray,
    folder: Path,
    *,
    wish: str | int | None = None,
    seed: int = 0,
    before: ImageArray | None = None,
) -> None:
    """Write finished pictures as `paint` does; earlier ones are replaced.

    Args:
        model: What painted them.
        images: (N, H, W, C) uint8.
        folder: Where; new, empty, or of earlier samples.
        wish: What they show, as the model takes it.
        seed: Of the first; the others count on.
        before: What they were made from, to be shown first in the grid, (H', W', C) uint8 of any size.

    Raises:
        ValueError: If the folder holds something else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for file in earlier_samples(folder):
        file.unlink(missing_ok=True)
    listed = [_painted(model, f"{i:05d}.png", seed + i, wish) for i in range(len(images))]
    _write_index(folder, listed)
    for painted, image in zip(listed, images, strict=True):
        to_pil(image).save(folder / painted.file)
    shown = [*([] if before is None else [enlarged(before, images.shape[1:3])]), *images]
    save_picture(tile(np.stack(shown), columns=round(len(shown) ** 0.5 + 0.49)), folder / "grid.png", at_least=512)
