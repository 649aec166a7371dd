"""`noisekiln style`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import Picture, Resize, RunFolder, Use, with_use

EXAMPLE = "noisekiln style runs/fashion shoe.png --from-class sneaker --class shirt"


@with_use(but=("count", "sampler"))
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="How far back to noise: 1 keeps least of the structure.")] = 0.95,
    from_class: Annotated[list[str] | None, option(help="What it shows now: a class.")] = None,
    from_prompt: Annotated[list[str] | None, option(help="What it shows now, in words.")] = None,
    painter: Annotated[Path | None, option("--with", help="Another run to paint it, such as a fine-tuned one.")] = None,
    like: Annotated[str | None, option(help="Images to look like: the run is first fine-tuned on them.")] = None,
    minutes: Annotated[float, typer.Option(help="Of fine-tuning, with --like.")] = 1.0,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Make the same picture of something else: back to the noise that makes it, and forward under another wish."""
    from noisekiln.cli._train import command_line, read_data, train
    from noisekiln.model.diffusion import Diffusion
    from noisekiln.plan.lookalike import fine_tuning
    from noisekiln.session.prompts import wish
    from noisekiln.uses.style_transfer import STEPS, style

    use = Use(run, "style", given)
    asked, model = use.asked, use.model
    if like and painter:
        raise ValueError("--like makes a run to paint it, and --with names one. Give one of them.")
    if not (like or painter or asked.classes or asked.prompts):
        raise ValueError(
            "Nothing says what it shall become. Give --class or --prompt (and what it is now: --from-class, "
            "--from-prompt), images to look --like, or another run --with which to paint it."
        )
    pixels, shown = use.picture(image, resize=resize), wish(model, from_class or [], from_prompt or [])
    if like:
        data = read_data(like, model.size)
        settings, painter = fine_tuning(run, model, data, source=like, minutes=minutes, device=asked.device)
        train(settings, data, painter, command_line())
    second = model
    if painter:
        second = Diffusion.load(painter, device=next(model.parameters()).device, allow_code=asked.allow_code)
    use.paint(
        lambda **how: style(model, pixels, like=shown, strength=strength, painter=second, **how),
        steps=use.steps(STEPS, strength), before=pixels, source=image, painter=second,
    )  # fmt: skip
