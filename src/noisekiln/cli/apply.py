"""`noisekiln apply`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Batch
from noisekiln.cli._use import Use, say_flattened, with_use

EXAMPLE = "noisekiln apply runs/upscaler small.png"


@with_use(but=("count", "batch"))
def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was trained with --task.")],
    images: Annotated[list[Path], typer.Argument(help="What it starts from: pictures of one size.")],
    count: Annotated[int, typer.Option("-n", help="Pictures of each image, one row of the grid.")] = 1,
    batch: Batch = 64,
    **given: Any,
) -> None:
    """Give images to a model with a task: upscale small ones, fill the transparent parts, colour grey ones."""
    from noisekiln.cli._sample import sample
    from noisekiln.session.inputs import read_given

    if count < 1:
        raise ValueError(f"-n {count}: there is nothing to paint. Ask for 1 or more.")
    use = Use(run, "apply", given)
    model, wanted = use.model, use.wish
    shown = read_given(model, images).repeat_interleave(count, dim=0)
    if shown.shape[-1] in (1, 3):
        for image in images:
            say_flattened(image)
    use.make_room(images)
    first: int = use.how.pop("seed")
    seeds, columns = range(first, first + len(shown)), count if count > 1 else 8
    sample(model, [wanted] * len(shown), seeds, use.folder, columns=columns, batch=batch, given=shown, **use.how)
