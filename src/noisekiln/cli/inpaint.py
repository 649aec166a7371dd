"""`noisekiln inpaint`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import Method, Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln inpaint runs/demo face.png --box 2,0,14,6 --prompt 'a person with green hair'"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    mask: Annotated[Path | None, option(help="A picture as large as it: white is missing, grey is mixed.")] = None,
    box: Annotated[list[str] | None, option(help="A missing box in pixels: left,top,right,bottom. May repeat.")] = None,
    colour: Annotated[str | None, option(help="What has this colour is missing: ff00ff.")] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Paint what was not marked.")] = False,
    method: Method = None,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Paint what is missing in a picture: by a mask, boxes, a colour, or where it is transparent."""
    from noisekiln.session.masks import missing
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.inpainting import inpaint

    use = Use(run, "inpaint", given)
    by_alpha = mask is None and not box and colour is None
    model, pixels = use.model, use.picture(image, resize=resize, holes=by_alpha)
    gone = missing(image, pixels, mask=mask, boxes=box or [], colour=colour, invert=invert, size=model.size)
    steps = use.steps(None if model.task else STEPS)
    use.paint(
        lambda **how: inpaint(model, pixels, gone, method=method, **how), steps=steps, before=pixels, source=image
    )
