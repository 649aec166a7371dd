"""`noisekiln restore`."""

from typing import Annotated, Any

from noisekiln.cli._options import option
from noisekiln.cli._use import ImageFile, Method, RunPath, open_use, with_use

EXAMPLE = 'noisekiln restore runs/faces blurred.png --operator "blur(sigma=1.5)" --operator "noise(level=0.02)"'


@with_use()
def command(
    run: RunPath,
    image: ImageFile,
    operator: Annotated[
        list[str], option(help="Operator of the damage: see `noisekiln list operators`. May repeat, in order.")
    ],
    method: Method = None,
    **options: Any,
) -> None:
    """Undo known damage of an image: blur, noise, lost colour, lost pixels, compression, or several of them."""
    from noisekiln.cli._sampling_bar import show
    from noisekiln.uses.restoration import restore

    session = open_use(run, "restore", options)
    pixels = session.read(image)
    show(session.run_use(restore, pixels, operator, method=method, **options), session)
