"""`noisekiln apply`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import option

EXAMPLE = "noisekiln apply runs/upscaler small.png"


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run that was trained with --task.")],
    images: Annotated[list[Path], typer.Argument(help="What it starts from: pictures of one size.")],
    count: Annotated[int, typer.Option("-n", help="Pictures of each image, one row of the grid.")] = 1,
    label: Annotated[str | None, option("--class", help="A class that it shall show: name or number.")] = None,
    prompt: Annotated[str | None, option(help="What it shall show, in words.")] = None,
    guidance: Annotated[str | None, option(help="How strongly the wish counts.")] = None,
    sampler: Annotated[str | None, option(help="See `noisekiln list samplers`.")] = None,
    steps: Annotated[int | None, option(help="Steps of the sampler.")] = None,
    schedule: Annotated[str | None, option(help="See `noisekiln list schedules`.")] = None,
    seed: Annotated[int, typer.Option(help="Of the first picture; the others count on from it.")] = 0,
    out: Annotated[Path | None, option(help="Folder for the pictures. Default: RUN/pictures.")] = None,
    batch: Annotated[int, typer.Option(help="Pictures painted at once; changes nothing but speed.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that the model names.")] = False,
) -> None:
    """Give images to a model with a task: upscale small ones, fill the transparent parts, colour grey ones."""
    from noisekiln.cli._sample import sample
    from noisekiln.cli._use import wish
    from noisekiln.cli.sample import read_guidance
    from noisekiln.diffusion import Diffusion
    from noisekiln.recipes.given import read_given
    from noisekiln.recipes.plan import pick_device

    if count < 1 or batch < 1:
        raise ValueError(f"-n {count} --batch {batch}: there is nothing to paint. Ask for 1 or more of both.")
    model = Diffusion.load(run, device=pick_device(device), allow_code=allow_code)
    wanted = wish(model, label, prompt)
    given = read_given(model, images).repeat_interleave(count, dim=0)
    seeds = range(seed, seed + len(given))
    sample(
        model, [wanted] * len(given), seeds, out or run / "pictures", columns=count if count > 1 else 8, batch=batch,
        given=given, guidance=read_guidance(guidance), sampler=sampler, steps=steps, schedule=schedule,
    )  # fmt: skip
