"""What the commands share that use a model on a picture: options, opening, showing, keeping."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisekiln.cli._options import with_settings
from noisekiln.spec import setting
from noisekiln.uses.how import How

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from noisekiln.diffusion import Diffusion

    Pixels = NDArray[np.uint8]

Command = Callable[..., None]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, or of a model.")]
Picture = Annotated[Path, typer.Argument(help="The picture.")]
Method = Annotated[
    str | None,
    typer.Option(help="How the model is held to what is known: see `noisekiln list inverse`.", show_default=False),
]
Resize = Annotated[bool, typer.Option("--resize", help="Scale the picture to the model's size instead of tiling it.")]


@dataclass(frozen=True)
class Asked:
    """Options that every use has, besides how it paints."""

    label: str | None = setting(None, "A class that it shall show: name or number.", flag="--class")
    prompt: str | None = setting(None, "What it shall show, in words.")
    adapters: list[str] | None = setting(None, "An adapter, and how strongly: runs/style:0.7.", flag="--adapter")
    out: Path | None = setting(None, "Folder for the pictures. Default: in RUN, named like the command.")
    device: str = setting("auto", "auto, cpu, cuda or mps.")
    allow_code: bool = setting(False, "Run Python files that the model names.", flag="--allow-code")


def with_use(*, but: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command the options of `Asked` and `How`; they arrive as ``**given``, for a `Use`."""

    def decorate(command: Command) -> Command:
        return with_settings(Asked)(with_settings(How, but=("wish", *but))(command))

    return decorate


class Use:
    """A model opened, and what was asked of it.

    Args:
        run: Its folder.
        name: Of the command, and of the folder for its pictures.
        given: What `with_use` gave the command.
    """

    def __init__(self, run: Path, name: str, given: dict[str, Any]) -> None:
        from noisekiln.adapter import merge, parse
        from noisekiln.diffusion import Diffusion
        from noisekiln.recipes.plan import pick_device

        self.asked = Asked(**{field.name: given.pop(field.name) for field in fields(Asked)})
        self.how, self.folder = given, self.asked.out or run / name
        device = pick_device(self.asked.device)
        self.model: Diffusion = Diffusion.load(run, device=device, allow_code=self.asked.allow_code)
        for adapter in self.asked.adapters or []:
            merge(self.model, *parse(adapter))

    @cached_property
    def wish(self) -> str | int | None:
        """What the pictures shall show, if the model can be asked for it."""
        return wish(self.model, self.asked.label, self.asked.prompt)

    def picture(self, file: Path, *, resize: bool = False) -> "Pixels":
        """A picture in the model's channels and of a size that it can work on, saying what was done to it."""
        from noisekiln.cli._show import say
        from noisekiln.uses.picture import fit

        fitted, note = fit(self.read(file), self.model.size, exactly=resize)
        if note:
            say(f"note: {file}: {note}" + (" (--resize scales them instead)." if "tiles" in note else "."))
        return fitted

    def read(self, file: Path) -> "Pixels":
        """A picture in the model's channels, as large as it is."""
        from noisekiln.data import read_picture

        return read_picture(file, channels=self.model.codec.channels)

    def paint(
        self,
        work: Callable[..., "Tensor"],
        *,
        steps: int,
        before: "Pixels | None" = None,
        source: Path | None = None,
        wish_of: "Diffusion | None" = None,
    ) -> "Pixels":
        """Do the work under a progress bar, and keep what it paints.

        Args:
            work: Of the fields of `How`, and `step_done`.
            steps: In all, for the bar.
            before: What is shown first in the grid.
            source: The file that is worked on, which must not be replaced.
            wish_of: The model that knows the wish, if another.
        """
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from noisekiln.cli._show import console, say
        from noisekiln.recipes.paint import keep

        wanted = self.wish if wish_of is None else wish(wish_of, self.asked.label, self.asked.prompt)
        self._make_room(source)  # before the work, which nobody wants to lose
        columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
            task = bar.add_task("painting", total=steps)
            painted = work(wish=wanted, step_done=lambda: bar.advance(task), **self.how)
        images: Pixels = painted.cpu().numpy()
        seed = self.how.get("seed", 0)
        keep(wish_of or self.model, images, self.folder, wish=wanted, seed=seed, before=before)
        count = "1 picture" if len(images) == 1 else f"{len(images)} pictures"
        say(f"{count} in {self.folder}; look at {self.folder / 'grid.png'}")
        return images

    def steps(self, usual: int | None = None, strength: float = 1.0) -> int:
        """Steps in all, for the progress bar."""
        model, how = self.model, self.how
        steps = how["steps"] or usual or model.sampling.steps
        walked = len(model.levels(how["schedule"] or model.sampling.schedule, steps, strength)) - 1
        batches: int = -(-how.get("count", 1) // how["batch"])
        return walked * batches

    def _make_room(self, source: Path | None) -> None:
        from noisekiln.cli._show import say
        from noisekiln.recipes.paint import earlier_samples

        folder = self.folder
        if source is not None and source.resolve().parent == folder.resolve():
            raise ValueError(
                f"{source} lies in {folder}, whose pictures would be replaced. "
                "Give another folder with --out, or copy it."
            )
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [file for file in earlier_samples(folder) if file.stem.isdecimal()]
        if earlier:
            say(f"note: the {len(earlier)} earlier pictures in {folder} will be replaced (--out keeps them).")


def wish(model: "Diffusion", label: str | None, prompt: str | None) -> str | int | None:
    """A class or a prompt, if this model can be asked for it."""
    from noisekiln.cli._sample import unknown_words
    from noisekiln.cli.sample import wishes

    if label == "all":
        raise ValueError("--class all: one picture shows one class. Give its name or number.")
    unknown_words(model, [prompt] if prompt else [])
    return wishes(model, [label] if label else [], [prompt] if prompt else [])[0]
