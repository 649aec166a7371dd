"""`noisekiln pretrained`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import Negative, option
from noisekiln.cli._use import show_note, with_use
from noisekiln.cli.train import parse_size

EXAMPLE = 'noisekiln pretrained "a cat in the sun, photo" --model runwayml/stable-diffusion-v1-5 -n 2'
LEFT_OUT = ("classes", "prompts", "negative", "conditions", "out", "allow_code", "count", "seed", "batch_size")


@with_use(exclude=LEFT_OUT)
def command(
    prompts: Annotated[list[str], typer.Argument(help="What the images show. Several prompts: a row each.")],
    model: Annotated[
        str, typer.Option(help="Stable Diffusion 1.x, 2.x or XL: a folder of diffusers, or OWNER/NAME on the Hub.")
    ],
    negative: Negative = None,
    image: Annotated[Path | None, option(help="An image to change.")] = None,
    mask: Annotated[Path | None, option(help="With --image: its white part alone is generated.")] = None,
    strength: Annotated[
        float | None, option(help="With --image: share of noise, up to 1. Default: 0.7; with --mask 1.")
    ] = None,
    count: Annotated[int | None, option("-n", help="Images in all. Default: one of each prompt.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first image; image i uses seed + i.")] = 0,
    size: Annotated[str | None, option(help="512, or 512x768 (height x width). Default: that of its training.")] = None,
    batch_size: Annotated[
        int | None, option("--batch-size", "--batch", min=1, help="Images at once. Default: 4.")
    ] = None,
    low_memory: Annotated[
        bool, typer.Option("--low-memory", help="Less memory, slower: one image at a time, parts loaded when needed.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Use only what was downloaded before; no network.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for the images.")] = Path("pictures"),
    **options: Any,
) -> None:
    """Generate images with a pretrained Stable Diffusion, or change one with --image.

    The weights are downloaded once. --sampler ddim, dpmpp_2m or euler visits the timesteps of diffusers' schedulers.
    """
    from noisekiln.cli._sampling_bar import show
    from noisekiln.session.pretrained_session import PretrainedOptions, PretrainedSession
    from noisekiln.session.prompts import RequestedConditions

    chosen = PretrainedOptions(
        model,
        size=parse_size(size),
        low_memory=low_memory,
        offline=offline,
        adapters=options.pop("adapters") or (),
        **{name: options.pop(name) for name in ("sampler", "schedule", "device", "precision")},
    )
    requested = RequestedConditions(prompts=prompts, negative=negative)
    session = PretrainedSession(chosen, out, requested, show_note, "pretrained")
    progress = session.paint(
        count=count,
        seed=seed,
        batch_size=batch_size,
        image=image,
        mask=mask,
        strength=strength,
        low_memory=low_memory,
        **options,
    )
    show(progress, session)
