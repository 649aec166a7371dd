"""`noisekiln edit`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln edit runs/demo face.png --prompt 'a person with green hair' --strength 0.5"


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="Near 0 nothing changes, 0.7 keeps the layout, 1 nothing.")] = 0.7,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Repaint a picture as a class or a prompt, as far from it as you say."""
    from noisekiln.uses.editing import edit

    use = Use(run, "edit", given)
    pixels, steps = use.picture(image, resize=resize), use.steps(strength=strength)
    use.paint(lambda **how: edit(use.model, pixels, strength=strength, **how), steps=steps, before=pixels, source=image)
