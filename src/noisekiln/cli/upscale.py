"""`noisekiln upscale`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import ImageFile, Method, RunPath, open_use, with_use

EXAMPLE = "noisekiln upscale runs/faces small.png --factor 4"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    factor: Annotated[int, typer.Option(help="How many times as high and as wide: 2, 4 or 8.")] = 4,
    method: Method = None,
    **options: Any,
) -> None:
    """Upscale an image. Averaging the result's blocks gives the input back."""
    from noisekiln.cli._painting import show
    from noisekiln.uses.upscaling import upscale

    session = open_use(run, "upscale", options)
    pixels, condition = session.read(image), session.condition
    progress = upscale(session.single, pixels, factor, method=method, condition=condition, **options)
    show(session.keep(progress, condition=condition, seed=options["seed"], before=pixels), session)
