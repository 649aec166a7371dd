"""`noisekiln variations`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln variations runs/demo face.png -n 8 --strength 0.4"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="How unlike they may be: more than 0, at most 1.")] = 0.5,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Paint pictures like this one."""
    from noisekiln.uses.variation import variations

    use = Use(run, "variations", given)
    pixels, steps = use.picture(image, resize=resize), use.steps(strength=strength)
    use.paint(
        lambda **how: variations(use.model, pixels, strength=strength, **how), steps=steps, before=pixels, source=image
    )
