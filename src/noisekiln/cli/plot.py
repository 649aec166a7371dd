"""`noisekiln plot`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import option

EXAMPLE = "noisekiln plot runs/demo"
SCHEDULES = "schedules"
ENDINGS = (".png", ".svg")


def command(
    what: Annotated[str, typer.Argument(help="Folder of a run; or the word schedules, for all noise schedules.")],
    out: Annotated[
        Path | None,
        option(help="File for the plot: .png or .svg. Default: RUN/curves.png and curves.svg, or schedules.png."),
    ] = None,
) -> None:
    """Plot the curves of a run: loss, loss by noise level, held-out loss, scores, gradient norm, learning rate."""
    from noisekiln.cli._show import say
    from noisekiln.components.registry import did_you_mean
    from noisekiln.paths import expand_home

    run = expand_home(Path(what))
    if what != SCHEDULES and not run.exists():
        raise ValueError(
            f"There is no plot called {what!r}, and no folder of a run. {did_you_mean(what, [SCHEDULES], 'plots')} "
            "For the curves of a run, give its folder, such as runs/demo."
        )
    files = [_checked(expand_home(out))] if out else _defaults(what, run)
    replaced = {file for file in files if file.exists()}
    if what == SCHEDULES:
        _plot_schedules(files[0])
    else:
        from noisekiln.runs.run_plot import plot_run

        left_out = plot_run(run, files)
        if left_out:
            say(f"note: {left_out}")
    for file in files:
        say(f"{'replaced' if file in replaced else 'wrote'} {file}")


def _defaults(what: str, run: Path) -> list[Path]:
    """The files without `out`."""
    if what == SCHEDULES:
        return [Path(f"{SCHEDULES}.png")]
    from noisekiln.runs.run_plot import NAMES

    return [run / name for name in NAMES]


def _checked(file: Path) -> Path:
    if file.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"`out={file}` has the ending {file.suffix or 'none'!r}, and plots are written as PNG or SVG. "
            f"Give a file such as {file.stem or SCHEDULES}.png."
        )
    return file


def _plot_schedules(file: Path) -> None:
    from noisekiln.components.registry import names
    from noisekiln.components.spec import build
    from noisekiln.plots.figure import save_figure
    from noisekiln.plots.schedule_curves import draw_schedules
    from noisekiln.schedules.base import Schedule

    schedules = {name: build(Schedule, name) for name in names("schedules")}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_figure(draw_schedules(schedules), file, {"command": "plot", "schedules": list(schedules)})
