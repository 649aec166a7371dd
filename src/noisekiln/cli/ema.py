"""`noisekiln ema`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisekiln.cli._options import option

if TYPE_CHECKING:
    from noisekiln.runs.ema_length import PostHocEma

EXAMPLE = "noisekiln ema runs/demo --length 0.05..0.25"
DEFAULT = "0.05..0.25"
COLUMNS = 5  # of a range
ROUGH = 0.05  # a residual from which on it is mentioned


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    length: Annotated[
        str | None,
        option(help="EMA lengths to compare: 0.03,0.07,0.15, or 0.05..0.25 for five. Default: 0.05..0.25."),
    ] = None,
    write: Annotated[float | None, option(help="Replace the run's model by the one with this length.")] = None,
    out: Annotated[Path | None, option(help="With --write: another folder for the model.")] = None,
    data: Annotated[str | None, option(help="Where the run's images are now, if they have moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: Annotated[bool, typer.Option("--allow-code", help="Run Python files that the model names.")] = False,
) -> None:
    """Choose the length of the EMA after training: compare samples of several lengths, and keep one."""
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.runs.ema_length import PostHocEma

    lengths = _lengths(length or DEFAULT)
    if out is not None and write is None:
        raise ValueError(f"`out={out}` came without `write`, so nothing would be written there. Give `write`, too.")
    averages = PostHocEma(run, device=pick_device(device), allow_code=allow_code)
    count = len(averages.snapshots)
    seen = f"up to {averages.images_seen:,} images"
    say(f"{run}: {count} snapshot{'s' * (count > 1)} of the averages {averages.tracks}, {seen}")
    if length is None and write is None:
        lengths = _possible(averages, lengths)
    if length is not None or write is None:
        _show(averages, lengths, data)
    own = f"{averages.settings.ema_length:g}"
    if write is None:
        say(f"to keep one: noisekiln ema {run} --write {own}")
        return
    place = averages.write(write, out)
    say(f"{place} has the average {write:g} now ({_describe(averages.fit(write).residual)})")
    if out is None:
        say(f"  resuming the run, or --write {own}, brings back the default one")


def _possible(averages: "PostHocEma", lengths: list[float]) -> list[float]:
    """Those of the default lengths that can be made of the snapshots so far; says which cannot."""
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
    """Generate with every length, say how well each could be made, and where to look."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from noisekiln.cli._show import console, say
    from noisekiln.runs.ema_sheet import EmaSheet

    sheet = EmaSheet(averages, data)
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar:
        samples = list(bar.track(sheet.samples(lengths), total=len(lengths)))
    for sample in samples:
        say(f"  {sample.length:<6g} {_describe(sample.residual)}")
    say(f"look at {sheet.save(samples)}")


def _describe(residual: float) -> str:
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
            f"`length={text}` is no list of lengths. Give shares of training, as 0.03,0.07,0.15, or a range: {DEFAULT}."
        ) from None
