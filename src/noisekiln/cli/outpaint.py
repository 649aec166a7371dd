"""`noisekiln outpaint`."""

from typing import Annotated, Any

from noisekiln.cli._options import option
from noisekiln.cli._use import ImageFile, Method, Resize, RunPath, open_use, with_use

EXAMPLE = "noisekiln outpaint runs/demo face.png --left 8 --right 8"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    left: Annotated[int | None, option(help="Pixels to add at the left.")] = None,
    top: Annotated[int | None, option(help="Pixels to add above.")] = None,
    right: Annotated[int | None, option(help="Pixels to add at the right.")] = None,
    bottom: Annotated[int | None, option(help="Pixels to add below.")] = None,
    every: Annotated[int, option("--all", help="Pixels to add on every side without its own number.")] = 0,
    method: Method = None,
    resize: Resize = False,
    **options: Any,
) -> None:
    """Extend an image beyond its edges."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.uses.outpainting import outpaint

    session = open_use(run, "outpaint", options)
    pixels = session.read_fitted(image, resize=resize)
    requested = {"left": left, "top": top, "right": right, "bottom": bottom}
    sides = {name: every if side is None else side for name, side in requested.items()}
    show(session.run_use(outpaint, pixels, method=method, **sides, **options), session)
