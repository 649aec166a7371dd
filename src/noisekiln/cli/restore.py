"""`noisekiln restore`."""

from typing import Annotated, Any

from noisekiln.cli._options import option, with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Method, Out, Picture, Prompt, RunFolder
from noisekiln.uses.how import How

EXAMPLE = 'noisekiln restore runs/faces blurred.png --operator "blur(sigma=1.5)" --operator "noise(level=0.02)"'


@with_settings(How, but=("wish",))
def command(
    run: RunFolder,
    image: Picture,
    operator: Annotated[
        list[str], option(help="What happened to it: see `noisekiln list operators`. May repeat, in order.")
    ],
    classes: Class = None,
    prompt: Prompt = None,
    method: Method = None,
    out: Out = None,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Undo what happened to a picture: blur, noise, lost colour, lost pixels, compression, one after the other."""
    from noisekiln.cli._use import opened, painted, steps_of, wish
    from noisekiln.data import read_picture
    from noisekiln.uses.explain import STEPS
    from noisekiln.uses.restore import restore

    model = opened(run, device, allow_code, adapters)
    pixels = read_picture(image, channels=model.codec.channels)
    wanted = wish(model, classes, prompt)
    painted(
        model,
        lambda step_done: restore(model, pixels, operator, method=method, wish=wanted, step_done=step_done, **how),
        out or run / "restore",
        steps=steps_of(model, how, None if model.task else STEPS),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip
