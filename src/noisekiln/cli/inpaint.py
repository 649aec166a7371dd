"""`noisekiln inpaint`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import ImageFile, Method, Resize, RunPath, open_use, with_use

EXAMPLE = "noisekiln inpaint runs/demo face.png --box 2,0,14,6 --prompt 'a person with green hair'"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    mask: Annotated[Path | None, option(help="Image of the same size: white is missing, grey is blended.")] = None,
    box: Annotated[list[str] | None, option(help="A missing box in pixels: left,top,right,bottom. May repeat.")] = None,
    colour: Annotated[
        str | None, option("--colour", "--color", help="Pixels of this colour are missing: ff00ff.")
    ] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Generate what is not marked.")] = False,
    method: Method = None,
    resize: Resize = False,
    **options: Any,
) -> None:
    """Generate the missing pixels of an image: marked by a mask, boxes, a colour, or transparency."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.session.masks import MaskOptions
    from noisekiln.uses.inpainting import inpaint

    session = open_use(run, "inpaint", options)
    marks = MaskOptions(mask, tuple(box or ()), colour, invert)
    pixels = session.read_fitted(image, resize=resize, keep_transparency=marks.by_transparency)
    missing = marks.missing(image, pixels, session.model.size, session.note)
    show(session.run_use(inpaint, pixels, missing, method=method, **options), session)
