"""`noisekiln edit`."""

from typing import Annotated, Any

import typer

from noisekiln.cli._options import with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Out, Picture, Prompt, Resize, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln edit runs/demo face.png --prompt 'a person with green hair' --strength 0.5"


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="Near 0 nothing changes, 0.7 keeps the layout, 1 nothing.")] = 0.7,
    classes: Class = None,
    prompt: Prompt = None,
    out: Out = None,
    resize: Resize = False,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Repaint a picture as a class or a prompt, as far from it as you say."""
    from noisekiln.cli._use import opened, painted, picture, steps_of, wish
    from noisekiln.uses.edit import edit

    model = opened(run, device, allow_code, adapters)
    pixels = picture(model, image, resize=resize)
    wanted = wish(model, classes, prompt)
    painted(
        model,
        lambda step_done: edit(model, pixels, strength=strength, wish=wanted, step_done=step_done, **how),
        out or run / "edit",
        steps=steps_of(model, how, strength=strength),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
