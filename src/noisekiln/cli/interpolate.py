"""`noisekiln interpolate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Out, Prompt, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln interpolate runs/demo 3 7 21 --frames 12"


@with_settings(How, but=("wish", "count", "seed"))
def command(
    run: RunFolder,
    keys: Annotated[list[str], typer.Argument(help="Two or more: seeds, or pictures of the model's size.")],
    frames: Annotated[int, typer.Option(help="Pictures from one key up to the next.")] = 8,
    seconds: Annotated[float, typer.Option(help="How long the animation shows each.")] = 0.1,
    classes: Class = None,
    prompt: Prompt = None,
    out: Out = None,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Walk from picture to picture: strip.png, animation.gif and animation.webp."""
    from noisekiln.cli._show import say
    from noisekiln.cli._use import opened, painted, picture, wish
    from noisekiln.pictures import save_strip
    from noisekiln.uses.interpolate import interpolate
    from noisekiln.uses.style import STEPS

    model = opened(run, device, allow_code, adapters)
    wanted = wish(model, classes, prompt)
    ends = [int(key) if key.isdecimal() else picture(model, Path(key), resize=True) for key in keys]
    count = max(frames * (len(keys) - 1) + 1, 1)
    folder = out or run / "interpolate"
    images = painted(
        model,
        lambda step_done: interpolate(model, ends, frames=frames, wish=wanted, step_done=step_done, **how),
        folder,
        steps=(how["steps"] or STEPS) * -(-count // how["batch"]), wish=wanted,
    )  # fmt: skip
    save_strip(images, folder, seconds=seconds)
    say(f"  {folder / 'strip.png'} and {folder / 'animation.gif'}")
