"""`noisekiln train`."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer

from noisekiln.cli._options import option, with_settings
from noisekiln.components.setting import rules_of
from noisekiln.plan.settings import Settings

EXAMPLE = "noisekiln train photos/ --minutes 10"
DATA = (
    "Folder of images (with one sub-folder for each class, or captions in a metadata.csv or .txt files), a .zip or "
    ".tar of one, .npz, .npy, idx files, CIFAR as downloaded, or bundled name."
)


@with_settings(Settings, exclude=("data", "size"))
def command(
    data: Annotated[str, typer.Argument(help=DATA)],
    out: Annotated[Path | None, option(help="Folder of the run. Default: runs/NAME, or runs/NAME-from-RUN.")] = None,
    size: Annotated[
        str | None,
        option(help="Image size: 32, or 24x48 (height x width).", rich_help_panel=rules_of(Settings)["size"].group),
    ] = None,
    allow_code: Annotated[
        bool,
        typer.Option("--allow-code", help="Allow Python code of a run, model or teacher (only if you trust it)."),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Measure what training would need, and stop.")] = False,
    **settings: Any,
) -> None:
    """Train a diffusion model on your images, in the time you have.

    Run the same command again to resume after an interruption.
    """
    from noisekiln import api
    from noisekiln.cli._plan import describe_roads, describe_skipped
    from noisekiln.cli._show import say
    from noisekiln.cli._watcher import Watcher

    with Watcher() as watcher:
        settings["size"] = parse_size(size)
        if not dry_run:
            api.train(data, out=out, watch=watcher, allow_code=allow_code, **settings)
            return
        measured = [*_measured_roads(data, out, watcher, allow_code, settings)]
        if not measured:
            return
        for line in [*describe_skipped(watcher.plan.data), *(describe_roads(dict(measured)) if measured[1:] else ())]:
            say(line)
        say("nothing was written")


def _measured_roads(
    data: str, out: Path | None, watcher: Callable[[Any], None], allow_code: bool, settings: dict[str, Any]
) -> Iterator[tuple[str, list[Any]]]:
    """What was measured of the road that a run would take, shown by the watcher, and of others if none was requested.

    Another road that the other settings exclude is left out.
    """
    from noisekiln import api
    from noisekiln.distributed import torchrun
    from noisekiln.plan.road import AUTO, CASCADE, LARGE_SIDE, LATENT, PIXELS
    from noisekiln.runs.events import Measured

    found: list[Any] = []

    def watch(event: Any) -> None:
        watcher(event)
        found.append(event)

    api.measure(data, out=out, watch=watch, allow_code=allow_code, **settings)
    first = [event for event in found if isinstance(event, Measured)]
    if not first:  # of several processes, only the first one prints
        return
    chosen = LATENT if first[0].plan.settings.road == LATENT else CASCADE if first[1:] else PIXELS
    yield chosen, first
    if (
        settings["road"] != AUTO
        or torchrun.is_launched()
        or first[-1].plan.images_seen
        or max(first[-1].plan.data.size) < LARGE_SIDE
    ):
        return
    nowhere = Path(tempfile.gettempdir()) / f"noisekiln-{uuid4()}"  # measuring writes nothing
    for road in (PIXELS, CASCADE, LATENT):
        found = []
        if road == chosen:
            continue
        with suppress(ValueError):  # the other settings may exclude a road
            api.measure(data, out=nowhere, watch=found.append, allow_code=allow_code, **settings | {"road": road})
        measured = [event for event in found if isinstance(event, Measured)]
        if measured:
            yield road, measured


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """The size that a user wrote: one side, or height and width.

    Raises:
        ValueError: If it is neither.
    """
    if text is None:
        return None
    numbers = text.lower().split("x")
    if not all(number.isdecimal() and int(number) >= 4 for number in numbers) or len(numbers) > 2:
        raise ValueError(
            f"`size={text}` is not a size to train on. Give one side of 4 or more pixels, as 32, or height x width, "
            "as 24x48."
        )
    return int(numbers[0]) if len(numbers) == 1 else (int(numbers[0]), int(numbers[1]))
