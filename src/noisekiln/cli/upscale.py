"""`noisekiln upscale`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import Method, Picture, RunFolder, Use, with_use

EXAMPLE = "noisekiln upscale runs/faces small.png --factor 4"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    factor: Annotated[int, typer.Option(help="How many times larger: 2, 4 or 8.")] = 4,
    method: Method = None,
    **given: Any,
) -> None:
    """Give a picture more pixels, such as the model knows; what comes out has the picture's pixels for its means."""
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.upscaling import upscale

    use = Use(run, "upscale", given)
    model, pixels = use.model, use.read(image)
    steps = use.steps(None if model.task else STEPS)
    use.paint(
        lambda **how: upscale(model, pixels, factor, method=method, **how), steps=steps, before=pixels, source=image
    )
