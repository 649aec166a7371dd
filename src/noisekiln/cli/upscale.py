"""`noisekiln upscale`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._options import with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Method, Out, Picture, Prompt, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln upscale runs/faces small.png --factor 4"


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    factor: Annotated[int, typer.Option(help="How many times larger: 2, 4 or 8.")] = 4,
    classes: Class = None,
    prompt: Prompt = None,
    method: Method = None,
    out: Out = None,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Give a picture more pixels, such as the model knows; what comes out has the picture's pixels for its means."""
    from noisekiln.cli._use import opened, painted, steps_of, wish
    from noisekiln.data import read_picture
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.upscale import upscale

    model = opened(run, device, allow_code, adapters)
    pixels = read_picture(image, channels=model.codec.channels)
    wanted = wish(model, classes, prompt)
    painted(
        model,
        lambda step_done: upscale(model, pixels, factor, method=method, wish=wanted, step_done=step_done, **how),
        out or run / "upscale",
        steps=steps_of(model, how, None if model.task else STEPS),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
