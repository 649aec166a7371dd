"""`noisekiln variations`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._options import with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Out, Picture, Prompt, Resize, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln variations runs/demo face.png -n 8 --strength 0.4"


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="How unlike they may be: more than 0, at most 1.")] = 0.5,
    classes: Class = None,
    prompt: Prompt = None,
    out: Out = None,
    resize: Resize = False,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Paint pictures like this one."""
    from noisekiln.cli._use import opened, painted, picture, steps_of, wish
    from noisekiln.uses.variations import variations

    model = opened(run, device, allow_code, adapters)
    pixels = picture(model, image, resize=resize)
    wanted = wish(model, classes, prompt)
    painted(
        model,
        lambda step_done: variations(model, pixels, strength=strength, wish=wanted, step_done=step_done, **how),
        out or run / "variations",
        steps=steps_of(model, how, strength=strength),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
