"""`noisekiln plot`."""

from pathlib import Path
from typing import Annotated

import typer

from noisekiln.cli._options import option

EXAMPLE = "noisekiln plot schedules --out schedules.svg"
SCHEDULES = "schedules"
ENDINGS = (".png", ".svg")


def command(
    what: Annotated[str, typer.Argument(help="What to plot: schedules.")],
    out: Annotated[Path | None, option(help="File for the plot: .png or .svg. Default: schedules.png.")] = None,
) -> None:
    """Plot the noise schedules: alpha, sigma and log-SNR over time. Runs draw their own plots while they train."""
    from noisekiln.cli._show import say
    from noisekiln.components.registry import did_you_mean
    from noisekiln.paths import expand_home

    if what != SCHEDULES:
        raise ValueError(
            f"There is no plot called {what!r}. {did_you_mean(what, [SCHEDULES], 'plots')} "
            "The curves of a run are in loss.png in its folder."
        )
    file = expand_home(out or Path(f"{SCHEDULES}.png"))
    if file.suffix.lower() not in ENDINGS:
        raise ValueError(
            f"`out={file}` has the ending {file.suffix or 'none'!r}, and plots are written as PNG or SVG. "
            f"Give a file such as {file.stem or SCHEDULES}.png."
        )
    replaced = file.exists()
    _plot_schedules(file)
    say(f"{'replaced' if replaced else 'wrote'} {file}")


def _plot_schedules(file: Path) -> None:
    from noisekiln.components.registry import names
    from noisekiln.components.spec import build
    from noisekiln.plots.figure import save_figure
    from noisekiln.plots.schedule_curves import draw_schedules
    from noisekiln.schedules.base import Schedule

    schedules = {name: build(Schedule, name) for name in names("schedules")}
    file.parent.mkdir(parents=True, exist_ok=True)
    save_figure(draw_schedules(schedules), file, {"command": "plot", "schedules": list(schedules)})
