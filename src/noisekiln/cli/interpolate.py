"""`noisekiln interpolate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._use import RunPath, open_use, with_use

EXAMPLE = "noisekiln interpolate runs/demo 3 7 21 --frames 12"


@with_use(but=("count", "seed"))
def command(
    run: RunPath,
    keys: Annotated[list[str], typer.Argument(help="Two or more: seeds, or image files.")],
    frames: Annotated[int, typer.Option(help="Images from one key to the next.")] = 8,
    seconds: Annotated[float, typer.Option(help="Seconds that the animation shows each image.")] = 0.1,
    **options: Any,
) -> None:
    """Generate a sequence of images from key to key: strip.png, animation.gif and animation.webp."""
    from noisekiln.cli._painting import show
    from noisekiln.cli._show import say
    from noisekiln.files.pictures import save_strip
    from noisekiln.uses.interpolation import interpolate

    if not 0 <= seconds <= 600:
        raise ValueError(
            f"`seconds={seconds:g}`: no animation shows an image for so long. Give 0 to 600; 0.1 is common."
        )
    session = open_use(run, "interpolate", options)
    ends = [int(key) if key.isdecimal() else session.read_fitted(Path(key), resize=True) for key in keys]
    progress = interpolate(session.single, ends, frames=frames, condition=session.condition, **options)
    show(session.keep(progress, condition=session.condition), session)
    folder = session.results.path
    save_strip(session.results.images, folder, seconds=seconds)
    say(f"  {folder / 'strip.png'} and {folder / 'animation.gif'}")
