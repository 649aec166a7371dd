"""Common options of the commands that use a model, and the opening of a session."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisekiln.cli._flags import with_flags
from noisekiln.cli._options import with_settings
from noisekiln.components.setting import setting
from noisekiln.files.hub import is_hub_name
from noisekiln.uses.request import SampleOptions

if TYPE_CHECKING:
    from noisekiln.session.session import Session

Command = Callable[..., None]
RunPath = Annotated[Path, typer.Argument(help="Folder of a run or a model.")]
ImageFile = Annotated[Path, typer.Argument(help="The image file.")]
Method = Annotated[
    str | None,
    typer.Option(help="How known pixels guide the model: see `noisekiln list inverse`.", show_default=False),
]
Resize = Annotated[bool, typer.Option("--resize", help="Scale the image to the model's size instead of tiling it.")]


@dataclass(frozen=True)
class CommonOptions:
    """Options of every command that uses a model, in addition to those of sampling."""

    classes: list[str] | None = setting(
        None, "Class that the result shows: name or number.", flag="--class", group="Condition"
    )
    prompts: list[str] | None = setting(None, "Prompt that the result follows.", flag="--prompt", group="Condition")
    negative: str | None = setting(
        None, "What the result should not show; guidance leads away from it.", flag="--negative", group="Condition"
    )
    conditions: list[str] | None = setting(
        None, "Any other condition, as text for the model's conditioner.", flag="--condition", group="Condition"
    )
    adapters: list[str] | None = setting(
        None,
        "Adapter: a run trained with --lora, and its strength: runs/style:0.7. May repeat.",
        flag="--adapter",
        group="Model and device",
    )
    out: Path | None = setting(None, "Folder for the images. Default: in RUN, named like the command.")
    device: str = setting("auto", "auto, cpu, cuda or mps.", group="Model and device")
    allow_code: bool = setting(
        False,
        "Allow the model to run its own Python code (only for models that you trust).",
        flag="--allow-code",
        group="Model and device",
    )


def with_use(*, exclude: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Give a command the options of `CommonOptions` and `SampleOptions`, apart from `exclude`, as keyword arguments."""

    def decorate(command: Command) -> Command:
        return with_settings(CommonOptions, exclude=exclude)(with_settings(SampleOptions, exclude=exclude)(command))

    return decorate


def pop_common(options: dict[str, Any]) -> CommonOptions:
    """The options of `CommonOptions`, removed from those of a command; missing ones get their default."""
    return CommonOptions(
        **{field.name: options.pop(field.name) for field in fields(CommonOptions) if field.name in options}
    )


def open_use(run: Path, name: str, options: dict[str, Any]) -> "Session":
    """The session of a command with an input image.

    Args:
        run: Folder of the run.
        name: Name of the command, and of the folder for its images in the run.
        options: Options of `with_use`; the fields of `SampleOptions` remain in it.
    """
    common = pop_common(options)
    SampleOptions(**options)  # raises for invalid options, before anything is loaded
    return open_session(run, common.out or folder_of_results(run, name), common, name)


def folder_of_results(run: Path, name: str) -> Path:
    """The default folder for images: in the folder of the run; of a model on the Hub, here."""
    return Path(name) if is_hub_name(run) else run / name


def open_session(run: Path, out: Path, common: CommonOptions, name: str = "sample") -> "Session":
    """A session with a model, whose notes are shown.

    Args:
        run: Folder of the run, model or cascade.
        out: Folder for the images.
        common: Options of the command.
        name: Name of the command.
    """
    from noisekiln.runs.undertrained import about_undertrained_run
    from noisekiln.session.prompts import RequestedConditions
    from noisekiln.session.session import Session

    session = Session.open(
        run,
        out,
        prompts=RequestedConditions(
            common.classes or (), common.prompts or (), common.conditions or (), common.negative
        ),
        adapters=common.adapters or (),
        device=common.device,
        allow_code=common.allow_code,
        note=show_note,
        command=name,
    )
    undertrained = about_undertrained_run(run)
    if undertrained is not None:
        session.later_notes.append(undertrained)
    return session


def show_note(text: str) -> None:
    """Show a note of a session, with options by their flags."""
    from noisekiln.cli import app
    from noisekiln.cli._show import say

    say(f"note: {with_flags(text, app)}")
