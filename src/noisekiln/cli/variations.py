"""`noisekiln variations`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import ImageFile, Resize, RunPath, open_use, with_use

EXAMPLE = "noisekiln variations runs/demo face.png -n 8 --strength 0.4"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    strength: Annotated[
        float, typer.Option(help="Share of noise, above 0 and at most 1: higher is more different.")
    ] = 0.5,
    resize: Resize = False,
    **options: Any,
) -> None:
    """Generate images similar to one image."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.uses.variation import variations

    session = open_use(run, "variations", options)
    pixels = session.read_fitted(image, resize=resize)
    show(session.run_use(variations, pixels, strength=strength, **options), session)
