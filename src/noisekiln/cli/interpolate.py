"""`noisekiln interpolate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._use import RunPath, open_use, with_use

EXAMPLE = "noisekiln interpolate runs/demo 3 7 21 --frames 12"


@with_use(exclude=("count", "seed"))
def command(
    run: RunPath,
    keys: Annotated[list[str], typer.Argument(help="Two or more key frames: seeds or image files.")],
    frames: Annotated[int, typer.Option(help="Images from one key frame to the next.")] = 8,
    seconds: Annotated[float, typer.Option(help="Seconds that the animation shows each image.")] = 0.1,
    **options: Any,
) -> None:
    """Interpolate between seeds or images: strip.png, animation.gif and animation.webp."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.cli._show import say
    from noisekiln.files.pictures import save_strip_and_animations
    from noisekiln.uses.interpolation import interpolate

    if not 0 <= seconds <= 600:
        raise ValueError(
            f"`seconds={seconds:g}`: the time for each image must be 0 to 600 seconds. Give 0.1, for example."
        )
    session = open_use(run, "interpolate", options)
    ends = [int(key) if key.isdecimal() else session.read_fitted(Path(key), resize=True) for key in keys]
    progress = interpolate(session.require_single_model(), ends, frames=frames, condition=session.condition, **options)
    written = session.write_results(progress, condition=session.condition, precision=options["precision"])
    show(written, session)
    results = session.results
    for file in save_strip_and_animations(results.images, results.path, seconds=seconds, text=results.shared):
        say(f"  {file}")
