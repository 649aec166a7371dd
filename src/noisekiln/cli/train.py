"""`noisekiln train`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.plan.settings import Settings

EXAMPLE = "noisekiln train photos/ --minutes 10"
DATA = "A folder of images (a sub-folder a class, or metadata.csv), .npz, .npy, idx files, or a bundled name."


@with_settings(Settings, but=("data", "size"))
def command(
    data: Annotated[str, typer.Argument(help=DATA)],
    out: Annotated[Path | None, option(help="Run folder. Default: runs/NAME, or runs/NAME-from-RUN.")] = None,
    size: Annotated[str | None, option(help="Image size: 32, or 24x48 (height x width).")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure what it would take, and stop.")] = False,
    **given: Any,
) -> None:
    """Train a diffusion model on your images, in the time you have.

    Give the same command again to go on after an interruption.
    """
    from noisekiln.cli._plan import measured_plan
    from noisekiln.cli._show import say
    from noisekiln.cli._train import command_line, describe_plan, read_data, train
    from noisekiln.plan.fine_tune import default_folder, size_to_load
    from noisekiln.runs.run import Run

    settings = Settings(data=data, **given)
    images = read_data(data, size_to_load(_size(size), settings.start, out), settings.task)
    folder = out or default_folder(images, settings.start)
    if dry_run:
        run = Run(settings, images, folder)
        describe_plan(run)
        for line in measured_plan(run):
            say(line)
        say("nothing was written")
    else:
        train(settings, images, folder, command_line())


def _size(text: str | None) -> int | tuple[int, int] | None:
    if text is None:
        return None
    numbers = text.lower().split("x")
    if not all(number.isdecimal() and int(number) >= 4 for number in numbers) or len(numbers) > 2:
        told = "Give one side of 4 or more pixels, as 32, or height x width, as 24x48"
        raise ValueError(f"--size {text} is not a size to train on. {told}.")
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))
