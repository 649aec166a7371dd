"""`noisekiln ema`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisekiln.cli._options import option

if TYPE_CHECKING:
    from noisekiln.runs.ema_length import PostHocEma

EXAMPLE = "noisekiln ema runs/demo --length 0.05..0.25"
USUAL = "0.05..0.25"
COLUMNS = 5  # of a range
ROUGH = 0.05  # a residual from which on it should be told


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    length: Annotated[
        str | None, option(help="Lengths to look at: 0.03,0.07,0.15, or 0.05..0.25 for five. Default: 0.05..0.25.")
    ] = None,
    write: Annotated[float | None, option(help="Put the model with this length in the place of the run's.")] = None,
    out: Annotated[Path | None, option(help="With --write: a folder to put it into instead.")] = None,
    data: Annotated[str | None, option(help="Where the run's images are now, if they have moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that the model names.")] = False,
) -> None:
    """Choose after training how long the weights are averaged: paint with several lengths, and keep one."""
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.runs.ema_length import PostHocEma

    lengths = _lengths(length or USUAL)
    if out is not None and write is None:
        raise ValueError(f"--out {out} came without --write, so nothing would be put there. Give --write LENGTH, too.")
    averages = PostHocEma(run, device=pick_device(device), allow_code=allow_code)
    count, tracks = len(averages.snapshots), " and ".join(f"{each:g}" for each in averages.snapshots[-1].lengths)
    say(f"{run}: {count} snapshot{'s' * (count > 1)} of the averages {tracks}, up to {averages.images_seen:,} images")
    if length is None and write is None:
        lengths = _possible(averages, lengths)
    if length is not None or write is None:
        _show(averages, lengths, data)
    if write is not None:
        place = averages.write(write, out)
        say(f"{place} has the average {write:g} now ({_told(averages.fit(write).residual)})")
        if out is None:
            say(f"  training on, or --write {averages.settings.ema_length:g}, brings back the usual one")
    else:
        say(f"to keep one: noisekiln ema {run} --write {averages.settings.ema_length:g}")


def _possible(averages: "PostHocEma", lengths: list[float]) -> list[float]:
    """Those of the usual lengths that can be made of what there is so far; says which cannot."""
    from noisekiln.cli._show import say

    possible = []
    for length in lengths:
        try:
            averages.fit(length)
        except ValueError:
            say(f"  {length:<6g} cannot be made of so few snapshots yet, and is left out")
        else:
            possible.append(length)
    return possible


def _show(averages: "PostHocEma", lengths: list[float], data: str | None) -> None:
    """Paint with every length, say how well each could be made, and where to look."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from noisekiln.cli._show import console, say
    from noisekiln.runs.ema_sheet import EmaSheet

    strip = EmaSheet(averages, data)
    columns = (TextColumn("painting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        done = list(bar.track(strip.columns(lengths), total=len(lengths)))
    for column in done:
        say(f"  {column.length:<6g} {_told(column.residual)}")
    say(f"look at {strip.save(done)}")


def _told(residual: float) -> str:
    """How well an average could be made, in words."""
    if residual < 1e-6:
        return "as it was tracked"
    rough = ": only roughly this length, which is far from those kept" if residual > ROUGH else ""
    return f"made to within {residual:.1%}{rough}"


def _lengths(text: str) -> list[float]:
    first, dots, last = text.partition("..")
    try:
        if not dots:
            return [float(word) for word in text.split(",")]
        low, high = float(first), float(last)
        return [float(f"{low + (high - low) * i / (COLUMNS - 1):.3g}") for i in range(COLUMNS)]
    except ValueError:
        raise ValueError(
            f"--length {text} is no list of lengths. Give shares of training, as 0.03,0.07,0.15, or a range: {USUAL}."
        ) from None
