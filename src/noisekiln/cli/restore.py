"""`noisekiln restore`."""

from typing import Annotated, Any

from noisekiln.cli._options import option
from noisekiln.cli._use import Method, Picture, RunFolder, Use, with_use

EXAMPLE = 'noisekiln restore runs/faces blurred.png --operator "blur(sigma=1.5)" --operator "noise(level=0.02)"'


@with_use()
def command(
    run: RunFolder,
    image: Picture,
    operator: Annotated[
        list[str], option(help="What happened to it: see `noisekiln list operators`. May repeat, in order.")
    ],
    method: Method = None,
    **given: Any,
) -> None:
    """Undo what happened to a picture: blur, noise, lost colour, lost pixels, compression, one after the other."""
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.restoration import restore

    use = Use(run, "restore", given)
    model, pixels = use.model, use.read(image)
    steps = use.steps(None if model.task else STEPS)
    use.paint(
        lambda **how: restore(model, pixels, operator, method=method, **how), steps=steps, before=pixels, source=image
    )
