"""`noisekiln outpaint`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Method, Out, Picture, Prompt, Resize, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln outpaint runs/demo face.png --left 8 --right 8"


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    left: Annotated[int, typer.Option(help="Pixels to add at the left.")] = 0,
    top: Annotated[int, typer.Option(help="Above.")] = 0,
    right: Annotated[int, typer.Option(help="At the right.")] = 0,
    bottom: Annotated[int, typer.Option(help="Below.")] = 0,
    every: Annotated[int | None, option("--all", help="At every side.")] = None,
    classes: Class = None,
    prompt: Prompt = None,
    method: Method = None,
    out: Out = None,
    resize: Resize = False,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Paint what lies beyond a picture's edges."""
    from noisekiln.cli._use import opened, painted, picture, steps_of, wish
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.outpaint import outpaint

    model = opened(run, device, allow_code, adapters)
    pixels = picture(model, image, resize=resize)
    wanted = wish(model, classes, prompt)
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    sides = sides if every is None else dict.fromkeys(sides, every)
    painted(
        model,
        lambda step_done: outpaint(model, pixels, method=method, wish=wanted, step_done=step_done, **sides, **how),
        out or run / "outpaint",
        steps=steps_of(model, how, None if model.task else STEPS),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
