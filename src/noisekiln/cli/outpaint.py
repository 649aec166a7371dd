"""`noisekiln outpaint`."""

from typing import Annotated, Any

from noisekiln.cli._options import option
from noisekiln.cli._use import Method, Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln outpaint runs/demo face.png --left 8 --right 8"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    left: Annotated[int | None, option(help="ImageArray to add at the left.")] = None,
    top: Annotated[int | None, option(help="Above.")] = None,
    right: Annotated[int | None, option(help="At the right.")] = None,
    bottom: Annotated[int | None, option(help="Below.")] = None,
    every: Annotated[int, option("--all", help="At every side that has no number of its own.")] = 0,
    method: Method = None,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Paint what lies beyond a picture's edges."""
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.outpainting import outpaint

    use = Use(run, "outpaint", given)
    model, pixels = use.model, use.picture(image, resize=resize)
    asked = {"left": left, "top": top, "right": right, "bottom": bottom}
    sides = {name: every if pixels is None else pixels for name, pixels in asked.items()}
    steps = use.steps(None if model.task else STEPS)
    use.paint(
        lambda **how: outpaint(model, pixels, method=method, **sides, **how), steps=steps, before=pixels, source=image
    )
