"""`noisekiln style`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option
from noisekiln.cli._use import Picture, Resize, RunFolder, Use, wish, with_use

EXAMPLE = "noisekiln style runs/fashion shoe.png --from-class sneaker --class shirt"


@with_use(but=("count", "sampler"))
def command(
    run: RunFolder,
    image: Picture,
    strength: Annotated[float, typer.Option(help="How far back to noise: 1 keeps least of the structure.")] = 0.95,
    from_class: Annotated[str | None, option(help="What it shows now: a class.")] = None,
    from_prompt: Annotated[str | None, option(help="What it shows now, in words.")] = None,
    painter: Annotated[Path | None, option("--with", help="Another run to paint it, such as a fine-tuned one.")] = None,
    like: Annotated[Path | None, option(help="Images to look like: the run is first fine-tuned on them.")] = None,
    minutes: Annotated[float, typer.Option(help="Of fine-tuning, with --like.")] = 1.0,
    resize: Resize = False,
    **given: Any,
) -> None:
    """Make the same picture of something else: back to the noise that makes it, and forward under another wish."""
    from noisekiln.diffusion import Diffusion
    from noisekiln.uses.style import STEPS, style

    use = Use(run, "style", given)
    asked, model = use.asked, use.model
    if like:
        painter = looks_like(run, model.size, like, minutes, asked.device)
    second = model
    if painter:
        second = Diffusion.load(painter, device=next(model.parameters()).device, allow_code=asked.allow_code)
    elif asked.label is None and asked.prompt is None:
        raise ValueError(
            "Nothing says what it shall become. Give --class or --prompt (and what it is now: --from-class, "
            "--from-prompt), images to look --like, or another run --with which to paint it."
        )
    pixels, shown = use.picture(image, resize=resize), wish(model, from_class, from_prompt)
    use.paint(
        lambda **how: style(model, pixels, like=shown, strength=strength, painter=second, **how),
        steps=use.steps(STEPS, strength), before=pixels, source=image, wish_of=second,
    )  # fmt: skip


def looks_like(run: Path, size: tuple[int, int], images: Path, minutes: float, device: str) -> Path:
    """The run, fine-tuned on some images: in a folder beside it, which is used again when it is there."""
    from noisekiln.cli._train import command_line, read_data, train
    from noisekiln.recipes.settings import Settings

    data = read_data(str(images), size)
    out = run.parent / f"{run.name}-like-{data.name}"
    train(Settings(data=str(images), start=str(run), minutes=minutes, device=device), data, out, command_line())
    return out
