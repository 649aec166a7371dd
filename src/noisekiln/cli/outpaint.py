"""`noisekiln outpaint`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import Method, Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln outpaint runs/demo face.png --left 8 --right 8"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    left: Annotated[int, typer.Option(help="Pixels to add at the left.")] = 0,
    top: Annotated[int, typer.Option(help="Above.")] = 0,
    right: Annotated[int, typer.Option(help="At the right.")] = 0,
    bottom: Annotated[int, typer.Option(help="Below.")] = 0,
    every: Annotated[int | None, option("--all", help="At every side.")] = None,
    method: Method = None,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Paint what lies beyond a picture's edges."""
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.outpaint import outpaint

    use = Use(run, "outpaint", given)
    model, pixels = use.model, use.picture(image, resize=resize)
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    sides = sides if every is None else dict.fromkeys(sides, every)
    steps = use.steps(None if model.task else STEPS)
    use.paint(
        lambda **how: outpaint(model, pixels, method=method, **sides, **how), steps=steps, before=pixels, source=image
    )
