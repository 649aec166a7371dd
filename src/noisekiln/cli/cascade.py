"""`noisekiln cascade`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import option

EXAMPLE = "noisekiln cascade runs/small runs/upscaler --out runs/cascade"


def command(
    stages: Annotated[list[Path], typer.Argument(help="A run that paints small, then one or more that upscale.")],
    out: Annotated[Path, typer.Option(help="Folder of the cascade.")] = Path("runs/cascade"),
    noise: Annotated[
        str | None, option(help="How noisy a stage is shown the one before: 0.1, or one each: 0.1,0.05.")
    ] = None,
    count: Annotated[int | None, option("-n", help="Images in all. Default: 16, or 8 of each wish.")] = None,
    classes: Annotated[list[str] | None, option("--class", help="A class: name, number or all; may repeat.")] = None,
    prompts: Annotated[list[str] | None, option("--prompt", help="A prompt. May repeat: a row each.")] = None,
    guidance: Annotated[str | None, option(help="How strongly the wish counts in the first stage.")] = None,
    steps: Annotated[int | None, option(help="Steps of the sampler in every stage.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first picture; the others count on from it.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that the models name.")] = False,
) -> None:
    """Join models to one that paints small, then upscales; `noisekiln sample` takes its folder."""
    from noisekiln.cli._sample import sample, unknown_words
    from noisekiln.cli._show import say
    from noisekiln.cli.sample import read_guidance, wishes
    from noisekiln.recipes.paint import share_out
    from noisekiln.recipes.plan import pick_device
    from noisekiln.recipes.stages import join_stages, save_cascade

    if count is not None and count < 1:
        raise ValueError(f"-n {count}: there is nothing to paint. Ask for 1 image or more.")
    cascade = join_stages(stages, _shares(noise), device=pick_device(device), allow_code=allow_code)
    wanted, columns = share_out(wishes(cascade, classes or [], prompts or []), count)
    cascade.bind(wanted)  # a wish that cannot be has written nothing
    place = save_cascade(cascade, out)
    say(f"{len(stages)} stages, {cascade.size[0]}x{cascade.size[1]} pixels, saved in {place}")
    unknown_words(cascade, prompts or [])
    sample(
        cascade, wanted, range(seed, seed + len(wanted)), out / "pictures", columns=columns,
        guidance=read_guidance(guidance), steps=steps,
    )  # fmt: skip


def _shares(text: str | None) -> list[float]:
    try:
        return [] if text is None else [float(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(
            f"--noise {text} is no share of noise. Give a number such as 0.1, or one each: 0.1,0.05."
        ) from None
