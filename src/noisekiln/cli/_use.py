"""What the commands share that use a model on a picture."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisekiln.cli._options import option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from noisekiln.diffusion import Diffusion

    Pixels = NDArray[np.uint8]

RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, or of a model.")]
Picture = Annotated[Path, typer.Argument(help="The picture.")]
Class = Annotated[str | None, option("--class", help="A class that it shall show: name or number.")]
Prompt = Annotated[str | None, option("--prompt", help="What it shall show, in words.")]
Method = Annotated[str | None, option(help="How the model is held to what is known: see `noisekiln list inverse`.")]
Resize = Annotated[bool, typer.Option("--resize", help="Scale the picture to the model's size instead of tiling it.")]
Out = Annotated[Path | None, option(help="Folder for the pictures. Default: in RUN, named like the command.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Adapters = Annotated[
    list[str] | None, option("--adapter", help="An adapter's run or file to put on, and how strongly: runs/style:0.7.")
]
AllowCode = Annotated[bool, typer.Option("--allow-code", help="Run Python files that the model names.")]


def opened(run: Path, device: str, allow_code: bool, adapters: list[str] | None = None) -> "Diffusion":
    """The model of a run, with its adapters on."""
    from noisekiln.adapter import merge, parse
    from noisekiln.diffusion import Diffusion
    from noisekiln.recipes.plan import pick_device

    model = Diffusion.load(run, device=pick_device(device), allow_code=allow_code)
    for adapter in adapters or []:
        merge(model, *parse(adapter))
    return model


def picture(model: "Diffusion", file: Path, *, resize: bool = False) -> "Pixels":
    """A picture in the model's channels and of a size that it can work on, saying what was done to it."""
    from noisekiln.cli._show import say
    from noisekiln.data import read_picture
    from noisekiln.uses.picture import fit

    fitted, note = fit(read_picture(file, channels=model.codec.channels), model.size, exactly=resize)
    if note:
        say(f"note: {file}: {note}" + (" (--resize scales them instead)." if "tiles" in note else "."))
    return fitted


def wish(model: "Diffusion", label: str | None, prompt: str | None) -> str | int | None:
    """What was asked for, if this model can be asked for it."""
    from noisekiln.cli._sample import unknown_words
    from noisekiln.cli.sample import wishes

    if label == "all":
        raise ValueError("--class all: one picture shows one class. Give its name or number.")
    unknown_words(model, [prompt] if prompt else [])
    return wishes(model, [label] if label else [], [prompt] if prompt else [])[0]


def painted(
    model: "Diffusion",
    work: Callable[..., "Tensor"],
    folder: Path,
    *,
    steps: int,
    before: "Pixels | None" = None,
    source: Path | None = None,
    wish: str | int | None = None,
    seed: int = 0,
) -> "Pixels":
    """Do the work under a progress bar, and keep what it paints in the folder."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from noisekiln.cli._show import console, say
    from noisekiln.recipes.paint import earlier_samples, keep

    # All of this before the work, which nobody wants to lose.
    if source is not None and source.resolve().parent == folder.resolve():
        raise ValueError(
            f"{source} lies in {folder}, whose pictures would be replaced. Give another folder with --out, or copy it."
        )
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [file for file in earlier_samples(folder) if file.stem.isdecimal()]
    if earlier:
        say(f"note: the {len(earlier)} earlier pictures in {folder} will be replaced (--out keeps them).")
    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("painting", total=steps)
        images: Pixels = work(step_done=lambda: bar.advance(task)).cpu().numpy()
    keep(model, images, folder, wish=wish, seed=seed, before=before)
    count = "1 picture" if len(images) == 1 else f"{len(images)} pictures"
    say(f"{count} in {folder}; look at {folder / 'grid.png'}")
    return images


def steps_of(model: "Diffusion", how: dict[str, Any], usual: int | None = None, strength: float = 1.0) -> int:
    """Steps in all, for the progress bar."""
    steps = how["steps"] or usual or model.sampling.steps
    walked = len(model.levels(how["schedule"] or model.sampling.schedule, steps, strength)) - 1
    batches: int = -(-how["count"] // how["batch"])
    return walked * batches
