"""`noisekiln interpolate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._use import RunFolder, Use, with_use

EXAMPLE = "noisekiln interpolate runs/demo 3 7 21 --frames 12"


@with_use(but=("count", "seed"))
def command(
    run: RunFolder,
    keys: Annotated[list[str], typer.Argument(help="Two or more: seeds, or pictures of the model's size.")],
    frames: Annotated[int, typer.Option(help="Pictures from one key up to the next.")] = 8,
    seconds: Annotated[float, typer.Option(help="How long the animation shows each.")] = 0.1,
    **given: Any,
) -> None:
    """Walk from picture to picture: strip.png, animation.gif and animation.webp."""
    from noisekiln.cli._show import say
    from noisekiln.files.pictures import save_strip
    from noisekiln.uses.interpolation import interpolate
    from noisekiln.uses.style_transfer import STEPS

    if not 0 <= seconds <= 600:
        raise ValueError(
            f"--seconds {seconds:g}: no animation shows a picture for so long. Give 0 to 600; 0.1 is usual."
        )
    use = Use(run, "interpolate", given)
    ends = [int(key) if key.isdecimal() else use.picture(Path(key), resize=True) for key in keys]
    count = max(frames * (len(keys) - 1) + 1, 1)
    images = use.paint(
        lambda **how: interpolate(use.model, ends, frames=frames, **how),
        steps=(use.how["steps"] or STEPS) * -(-count // use.how["batch"]),
    )
    save_strip(images, use.folder, seconds=seconds)
    say(f"  {use.folder / 'strip.png'} and {use.folder / 'animation.gif'}")
