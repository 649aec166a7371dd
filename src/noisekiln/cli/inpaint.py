"""`noisekiln inpaint`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Method, Out, Picture, Prompt, Resize, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln inpaint runs/demo face.png --box 2,0,14,6 --prompt 'a person with green hair'"


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    mask: Annotated[Path | None, option(help="A picture as large as it: white is missing, grey is mixed.")] = None,
    box: Annotated[list[str] | None, option(help="A missing box in pixels: left,top,right,bottom. May repeat.")] = None,
    colour: Annotated[str | None, option(help="What has this colour is missing: ff00ff.")] = None,
    invert: Annotated[bool, typer.Option("--invert", help="Paint what was not marked.")] = False,
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
    """Paint what is missing in a picture: by a mask, boxes, a colour, or where it is transparent."""
    from noisekiln.cli._masks import missing
    from noisekiln.cli._use import opened, painted, picture, steps_of, wish
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.inpaint import inpaint

    model = opened(run, device, allow_code, adapters)
    pixels = picture(model, image, resize=resize)
    gone = missing(image, pixels, mask=mask, boxes=box or [], colour=colour, invert=invert, size=model.size)
    wanted = wish(model, classes, prompt)
    painted(
        model,
        lambda step_done: inpaint(model, pixels, gone, method=method, wish=wanted, step_done=step_done, **how),
        out or run / "inpaint",
        steps=steps_of(model, how, None if model.task else STEPS),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
