"""`noisekiln sample`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisekiln.cli._options import option

if TYPE_CHECKING:
    from noisekiln.cascade import Model

EXAMPLE = 'noisekiln sample runs/demo --prompt "a person with red hair and a green shirt" -n 8'


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, or of a model.")],
    count: Annotated[int | None, option("-n", help="Images in all. Default: 16, or 8 of each wish.")] = None,
    classes: Annotated[list[str] | None, option("--class", help="A class: name, number or all; may repeat.")] = None,
    prompts: Annotated[list[str] | None, option("--prompt", help="A prompt. May repeat: a row each.")] = None,
    adapters: Annotated[
        list[str] | None, option("--adapter", help="A run trained with --lora, or FOLDER:STRENGTH. May repeat.")
    ] = None,
    guidance: Annotated[
        str | None, option(help="How strongly the wish counts (1: the model as it is), or a spec.")
    ] = None,
    sampler: Annotated[str | None, option(help="See `noisekiln list samplers`.")] = None,
    steps: Annotated[int | None, option(help="Steps of the sampler.")] = None,
    schedule: Annotated[str | None, option(help="See `noisekiln list schedules`.")] = None,
    seed: Annotated[str, typer.Option(help="Seed of the first image, or one for each: 3,7,21.")] = "0",
    out: Annotated[Path | None, option(help="Folder for the pictures. Default: RUN/pictures.")] = None,
    batch: Annotated[int, typer.Option(help="Images painted at once; changes nothing but speed.")] = 64,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that the model names.")] = False,
) -> None:
    """Paint images with a trained model: grid.png, 00000.png, ... and samples.json."""
    from noisekiln.adapter import merge, parse
    from noisekiln.cascade import load
    from noisekiln.cli._sample import sample, unknown_words
    from noisekiln.diffusion import Diffusion
    from noisekiln.find import name_of
    from noisekiln.recipes.paint import share_out
    from noisekiln.recipes.plan import pick_device

    model = load(run, device=pick_device(device), allow_code=allow_code)
    if isinstance(model, Diffusion) and model.task is not None:
        raise ValueError(
            f"{run} was trained to {name_of(type(model.task))}, so it needs images to start from. "
            f"Use: noisekiln apply {run} IMAGE"
        )
    for adapter in adapters or []:
        if not isinstance(model, Diffusion):
            raise ValueError(
                f"--adapter {adapter}: {run} is a cascade; adapters belong to a single model. Leave it away."
            )
        merge(model, *parse(adapter))
    seeds = _seeds(seed)
    if count is not None and count < 1:
        raise ValueError(f"-n {count}: there is nothing to paint. Ask for 1 image or more.")
    if batch < 1:
        raise ValueError(f"--batch {batch}: at least one image is painted at once. Give 1 or more; 64 is usual.")
    if len(seeds) > 1:
        if count not in (None, len(seeds)):
            raise ValueError(f"-n {count} came with {len(seeds)} seeds. Leave -n away, or give as many seeds.")
        count = len(seeds)
    wanted, columns = share_out(wishes(model, classes or [], prompts or []), count)
    unknown_words(model, prompts or [])
    seeds = seeds if len(seeds) > 1 else [seeds[0] + i for i in range(len(wanted))]
    sample(
        model, wanted, seeds, out or run / "pictures", columns=columns, batch=batch,
        guidance=read_guidance(guidance), sampler=sampler, steps=steps, schedule=schedule,
    )  # fmt: skip


def wishes(model: "Model", classes: list[str], prompts: list[str]) -> "list[str | int | None]":
    """What was asked for, if this model can be asked for it."""
    if classes and prompts:
        raise ValueError("Both --class and --prompt were given; a model knows classes or captions. Give one of them.")
    conditioner = model.conditioner
    known = conditioner.choices if conditioner else ()
    if classes and conditioner and not known:
        raise ValueError(f"--class {classes[0]} was given, but this model was trained on captions. Use --prompt.")
    if prompts and known:
        raise ValueError(f"--prompt was given, but this model knows classes: {', '.join(known)}. Use --class.")
    if classes == ["all"] and known:
        return list(range(len(known)))
    return [*classes, *prompts] or [None]


def read_guidance(text: str | None) -> float | str | None:
    """A scale, or the spec of a guidance."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _seeds(text: str) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) < 2**63 for word in words):
        raise ValueError(f"--seed {text} is not a seed. Give a whole number from 0 to 2^63 - 1, or several as 3,7,21.")
    return [int(word) for word in words]
