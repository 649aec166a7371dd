"""What the commands share that use a model: options, opening, showing, keeping."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from noisekiln.cli._options import with_settings
from noisekiln.components.spec import setting
from noisekiln.uses.request import SampleOptions

if TYPE_CHECKING:
    from torch import Tensor

    from noisekiln.files.pictures import ImageArray
    from noisekiln.model.cascade import Model
    from noisekiln.model.diffusion import Diffusion

Command = Callable[..., None]
Opened = TypeVar("Opened", bound="Model")
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run, or of a model.")]
Picture = Annotated[Path, typer.Argument(help="The picture.")]
Method = Annotated[
    str | None,
    typer.Option(help="How the model is held to what is known: see `noisekiln list inverse`.", show_default=False),
]
Resize = Annotated[bool, typer.Option("--resize", help="Scale the picture to the model's size instead of tiling it.")]


@dataclass(frozen=True)
class CommonOptions:
    """Options that every use has, besides how it paints."""

    classes: list[str] | None = setting(None, "A class that it shall show: name or number.", flag="--class")
    prompts: list[str] | None = setting(None, "What it shall show, in words.", flag="--prompt")
    adapters: list[str] | None = setting(
        None, "A run trained with --lora, and how strongly: runs/style:0.7. May repeat.", flag="--adapter"
    )
    out: Path | None = setting(None, "Folder for the pictures. Default: in RUN, named like the command.")
    device: str = setting("auto", "auto, cpu, cuda or mps.")
    allow_code: bool = setting(False, "Run Python files that the model names.", flag="--allow-code")


def with_use(*, but: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command the options of `CommonOptions` and `SampleOptions` that are not in `but`; they arrive as ``**given``."""

    def decorate(command: Command) -> Command:
        return with_settings(CommonOptions, but=but)(with_settings(SampleOptions, but=("wish", *but))(command))

    return decorate


def taken(given: dict[str, Any]) -> CommonOptions:
    """The options of `CommonOptions`, taken out of what a command was given; what it does not have is at its default."""
    return CommonOptions(
        **{field.name: given.pop(field.name) for field in fields(CommonOptions) if field.name in given}
    )


def open_model(load: Callable[..., Opened], run: Path, asked: CommonOptions) -> Opened:
    """The model of a folder, by one of the functions that load one, with its adapters."""
    from noisekiln.machine.devices import pick_device
    from noisekiln.model.adapter import merge, parse

    model = load(run, device=pick_device(asked.device), allow_code=asked.allow_code)
    onto: Any = model  # of a cascade `merge` says that it takes none
    for adapter in asked.adapters or []:
        merge(onto, *parse(adapter))
    return model


class Use:
    """A model opened, and what was asked of it.

    Args:
        run: Its folder.
        name: Of the command, and of the folder for its pictures.
        given: What `with_use` gave the command.
    """

    def __init__(self, run: Path, name: str, given: dict[str, Any]) -> None:
        from noisekiln.model.diffusion import Diffusion

        self.asked = taken(given)
        SampleOptions(**given)  # which says what cannot be
        self.how, self.folder = given, self.asked.out or run / name
        self.model: Diffusion = open_model(Diffusion.load, run, self.asked)

    @cached_property
    def wish(self) -> str | int | None:
        """What the pictures shall show, if the model can be asked for it."""
        return self.wish_of(self.model)

    def wish_of(self, model: "Diffusion") -> str | int | None:
        """The same, of another model."""
        from noisekiln.session.prompts import wish

        return wish(model, self.asked.classes or [], self.asked.prompts or [])

    def picture(self, file: Path, *, resize: bool = False, holes: bool = False) -> "ImageArray":
        """A picture in the model's channels and of a size that it can work on, saying what was done to it.

        Args:
            file: The picture.
            resize: Whether to scale it to the model's size.
            holes: Whether what is transparent is missing in it.
        """
        from noisekiln.cli._show import say
        from noisekiln.uses.fit_image import fit

        fitted, note = fit(self.read(file, holes=holes), self.model.size, exactly=resize)
        if note:
            say(f"note: {file}: {note}" + (" (--resize scales them instead)." if "tiles" in note else "."))
        return fitted

    def read(self, file: Path, *, holes: bool = False) -> "ImageArray":
        """A picture in the model's channels, as large as it is; what is transparent is on white."""
        from noisekiln.data import read_picture

        pixels = read_picture(file, channels=self.model.codec.channels)
        if not holes:
            say_flattened(file)
        return pixels

    def paint(
        self,
        work: Callable[..., "Tensor"],
        *,
        steps: int,
        before: "ImageArray | None" = None,
        source: Path | None = None,
        painter: "Diffusion | None" = None,
    ) -> "ImageArray":
        """Do the work under a progress bar, and keep what it paints.

        Args:
            work: Of the fields of `SampleOptions`, and `step_done`.
            steps: In all, for the bar.
            before: What is shown first in the grid.
            source: The file that is worked on, which must not be replaced.
            painter: The model that paints and knows the wish, if another.
        """
        from noisekiln.cli._painting import painting
        from noisekiln.cli._show import say
        from noisekiln.session.paint import keep

        wanted = self.wish if painter is None else self.wish_of(painter)
        self.make_room([] if source is None else [source])  # before the work, which nobody wants to lose
        with painting(steps, lambda _: "nothing was written, as pictures are kept once all are finished") as step_done:
            painted = work(wish=wanted, step_done=step_done, **self.how)
        images: ImageArray = painted.cpu().numpy()
        seed = self.how.get("seed", 0)
        keep(painter or self.model, images, self.folder, wish=wanted, seed=seed, before=before)
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

    def make_room(self, sources: Sequence[Path]) -> None:
        """Make the folder for the pictures, and say which ones in it will be replaced.

        Raises:
            ValueError: If it holds anything else, or what is worked on.
        """
        from noisekiln.cli._show import say
        from noisekiln.session.paint import earlier_samples

        folder = self.folder
        for source in sources:
            if source.resolve().parent == folder.resolve():
                raise ValueError(
                    f"{source} lies in {folder}, whose pictures would be replaced. "
                    "Give another folder with --out, or copy it."
                )
        folder.mkdir(parents=True, exist_ok=True)
        earlier = [file for file in earlier_samples(folder) if file.stem.isdecimal()]
        if earlier:
            say(f"note: the {len(earlier)} earlier pictures in {folder} will be replaced (--out keeps them).")


def say_flattened(file: Path) -> None:
    """Say so, if parts of a picture are transparent where that means nothing."""
    from noisekiln.cli._show import say
    from noisekiln.data import read_transparency

    clear = read_transparency(file)
    if clear is not None and clear.any():
        say(f"note: {file}: {(clear > 0).mean():.0%} of it lets light through, and is taken as if it lay on white.")
