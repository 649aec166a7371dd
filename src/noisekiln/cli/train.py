"""`noisekiln train`."""

from pathlib import Path
from typing import Annotated

import typer

EXAMPLE = "noisekiln train photos/ --minutes 10"


def command(
    data: Annotated[str, typer.Argument(help="A folder of images (a sub-folder a class, or metadata.csv), .npz, .npy, idx, or a bundled name.")],
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/NAME.", show_default=False)] = None,
    minutes: Annotated[float | None, typer.Option(help="Budget in minutes. Default: 10 on a CPU.", show_default=False)] = None,
    images: Annotated[int | None, typer.Option(help="Budget in images seen.", show_default=False)] = None,
    size: Annotated[str | None, typer.Option(help="Image size: 32, or 24x48 (height x width).", show_default=False)] = None,
    cond: Annotated[str, typer.Option(help="What the model is told: auto, none, class or text.")] = "auto",
    model: Annotated[str, typer.Option(help="Size of the network: auto, xs, s, m or l.")] = "auto",
    backbone: Annotated[str | None, typer.Option(help="Another network: see `noisekiln list backbones`.", show_default=False)] = None,
    prediction: Annotated[str, typer.Option(help="What it predicts: v, eps, x0 or flow.")] = "v",
    label: Annotated[str, typer.Option(help="How it is told the noise level.")] = "angle",
    draw: Annotated[str, typer.Option(help="Which noise levels it is trained on.")] = "log_normal",
    weight: Annotated[str, typer.Option(help="How levels count in the loss.")] = "unit",
    batch: Annotated[int | None, typer.Option(help="Images in a step.", show_default=False)] = None,
    optimizer: Annotated[str, typer.Option(help="muon, adamw or adam.")] = "muon",
    rate: Annotated[float | None, typer.Option(help="Peak learning rate.", show_default=False)] = None,
    guidance: Annotated[float | None, typer.Option(help="Usual guidance scale.", show_default=False)] = None,
    sampler: Annotated[str | None, typer.Option(help="Usual sampler.", show_default=False)] = None,
    steps: Annotated[int | None, typer.Option(help="Usual steps of it.", show_default=False)] = None,
    schedule: Annotated[str | None, typer.Option(help="Usual levels sampled along.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="Of everything random.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be trained, and stop.")] = False,
) -> None:
    """Train a diffusion model on your images, in the time you have.

    Give the same command again to go on after an interruption.
    """
    from noisekiln.cli._train import command_line, describe_data, describe_plan, train
    from noisekiln.data import load
    from noisekiln.recipes.run import Run
    from noisekiln.recipes.settings import Settings

    given = {"sampler": sampler, "steps": steps, "schedule": schedule}
    settings = Settings(
        data=data, cond=cond, minutes=minutes, images=images, seed=seed, device=device, model=model, backbone=backbone,
        prediction=prediction, label=label, draw=draw, weight=weight, batch=batch, optimizer=optimizer, rate=rate,
        guidance=guidance, **{name: value for name, value in given.items() if value is not None},
    )  # fmt: skip
    images_found = load(data, size=_size(size))
    describe_data(images_found)
    folder = out or Path("runs") / images_found.name
    if dry_run:
        describe_plan(Run(settings, images_found, folder))
    else:
        train(settings, images_found, folder, command_line())


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    numbers = text.lower().split("x")
    if not all(number.isdecimal() for number in numbers) or len(numbers) > 2:
        raise ValueError(f"--size {text} is not a size. Give one side, as 32, or height x width, as 24x48.")
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))
