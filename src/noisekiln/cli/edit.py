"""`noisekiln edit`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._use import ImageFile, Resize, RunPath, open_use, with_use

EXAMPLE = "noisekiln edit runs/demo face.png --prompt 'a person with green hair' --strength 0.5"


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    strength: Annotated[
        float,
        typer.Option(
            help="Share of noise, above 0 and at most 1: 0.4 changes details, 0.7 keeps the layout, 1 keeps nothing."
        ),
    ] = 0.7,
    resize: Resize = False,
    **options: Any,
) -> None:
    """Change an image towards a class or a prompt (image-to-image)."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.uses.editing import edit

    session = open_use(run, "edit", options)
    pixels = session.read_fitted(image, resize=resize)
    show(session.run_use(edit, pixels, strength=strength, **options), session)
