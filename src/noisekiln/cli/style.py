"""`noisekiln style`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.cli._use import Adapters, AllowCode, Class, Device, Out, Picture, Prompt, Resize, RunFolder
from noisekiln.uses.how import How

EXAMPLE = "noisekiln style runs/fashion shoe.png --from-class sneaker --class shirt"


@with_settings(How, but=("wish", "count", "sampler"))
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="How far back to noise: 1 keeps least of the structure.")] = 0.95,
    from_class: Annotated[str | None, option(help="What it shows now: a class.")] = None,
    from_prompt: Annotated[str | None, option(help="What it shows now, in words.")] = None,
    classes: Class = None,
    prompt: Prompt = None,
    painter: Annotated[
        Path | None, option("--with", help="Another run that paints it, such as a fine-tuned one.")
    ] = None,
    like: Annotated[
        Path | None, option(help="Images that it shall look like: the run is first fine-tuned on them.")
    ] = None,
    minutes: Annotated[float, typer.Option(help="Of fine-tuning, with --like.")] = 1.0,
    out: Out = None,
    resize: Resize = False,
    adapters: Adapters = None,
    device: Device = "auto",
    allow_code: AllowCode = False,
    **how: Any,
) -> None:
    """Make the same picture of something else: back to the noise that makes it, and forward under another wish."""
    from noisekiln.cli._use import opened, painted, picture, steps_of, wish
    from noisekiln.uses.style import STEPS, style

    model = opened(run, device, allow_code, adapters)
    if like:
        painter = looks_like(run, model.size, like, minutes, device)
    second = opened(painter, device, allow_code) if painter else None
    pixels = picture(model, image, resize=resize)
    shown, wanted = wish(model, from_class, from_prompt), wish(second or model, classes, prompt)
    if wanted is None and second is None:
        raise ValueError(
            "Nothing says what it shall become. Give --class or --prompt (and what it is now: --from-class, "
            "--from-prompt), images to look --like, or another run --with which to paint it."
        )
    painted(
        second or model,
        lambda step_done: style(
            model, pixels, like=shown, strength=strength, painter=second, wish=wanted, step_done=step_done, **how
        ),
        out or run / "style",
        steps=steps_of(model, {**how, "count": 1}, STEPS, strength),
        before=pixels, source=image, wish=wanted, seed=how["seed"],
    )  # fmt: skip


def looks_like(run: Path, size: tuple[int, int], images: Path, minutes: float, device: str) -> Path:
    """The run, fine-tuned on some images: in a folder beside it, which is used again when it is there."""
    from noisekiln.cli._train import command_line, read_data, train
    from noisekiln.recipes.settings import Settings

    data = read_data(str(images), size)
    out = run.parent / f"{run.name}-like-{data.name}"
    train(Settings(data=str(images), start=str(run), minutes=minutes, device=device), data, out, command_line())
    return out
