"""`noisekiln upscale`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import ImageFile, Method, RunPath, open_use, with_use

EXAMPLE = "noisekiln upscale runs/faces small.png --factor 4"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    factor: Annotated[
        int,
        typer.Option(
            help="Upscaling factor per side, 2 or more (2, 4 or 8 for a model trained with `--task upscale`)."
        ),
    ] = 4,
    method: Method = None,
    **options: Any,
) -> None:
    """Upscale an image. Averaging squares of the result gives the input again."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.uses.upscaling import upscale

    session = open_use(run, "upscale", options)
    pixels = session.read(image)
    show(session.run_use(upscale, pixels, factor, method=method, **options), session)
