"""`noisekiln apply`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._use import open_use, with_use
from noisekiln.components.limits import MOST_IMAGES, check_at_most

EXAMPLE = "noisekiln apply runs/upscaler small.png"


@with_use(exclude=("count",))
def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was trained with --task.")],
    images: Annotated[list[Path], typer.Argument(help="Images to start from, all of one size.")],
    count: Annotated[int, typer.Option("-n", help="Results for each image, one row of the grid.")] = 1,
    **options: Any,
) -> None:
    """Apply a model with a task to images: upscale small ones, fill transparent parts, colour grey ones."""
    from noisekiln.cli._sampling_bar import show

    if count < 1:
        raise ValueError(f"`count={count}`: there is nothing to generate. Give 1 or more.")
    check_at_most("count", count, MOST_IMAGES // len(images))
    session = open_use(run, "apply", options)
    source = session.read_sources(images).repeat_interleave(count, dim=0)
    seed: int = options.pop("seed")
    progress = session.sample(
        [session.condition] * len(source),
        range(seed, seed + len(source)),
        columns=count if count > 1 else 8,
        source=source,
        **options,
    )
    show(progress, session)
