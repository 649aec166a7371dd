"""`noisekiln ema`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from noisekiln.cli._options import AllowCode, option
from noisekiln.errors import counted

if TYPE_CHECKING:
    from noisekiln.runs.ema_length import PostHocEma

EXAMPLE = "noisekiln ema runs/demo --length 0.05..0.25"
DEFAULT = "0.05..0.25"
COLUMNS = 5  # lengths of a range
ROUGH = 0.05  # residual above which a length is called approximate


def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    length: Annotated[
        str | None,
        option(help="EMA lengths to compare: 0.03,0.07,0.15, or 0.05..0.25 for five. Default: 0.05..0.25."),
    ] = None,
    write: Annotated[float | None, option(help="Replace the run's model with the average of this length.")] = None,
    out: Annotated[Path | None, option(help="With --write: another folder for the model.")] = None,
    data: Annotated[str | None, option(help="Where the run's images are now, if they were moved.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: AllowCode = False,
) -> None:
    """Choose the length of the EMA after training: compare samples of several lengths, and keep one."""
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.runs.ema_length import PostHocEma

    lengths = _lengths(length or DEFAULT)
    if out is not None and write is None:
        raise ValueError(
            f"`out={out}` was given without `write`, so no model would be written there. Give `write`, too."
        )
    averages = PostHocEma(run, device=pick_device(device), allow_code=allow_code)
    count = len(averages.snapshots)
    seen = f"up to {averages.images_seen:,} images"
    say(f"{run}: {counted(count, 'snapshot')} of the averages {averages.tracked_lengths_text}, {seen}")
    if length is None and write is None:
        lengths = _possible(averages, lengths)
    if length is not None or write is None:
        _show(averages, lengths, data)
    own = f"{averages.settings.ema_length:g}"
    if write is None:
        say(f"to keep one: noisekiln ema {run} --write {own}")
        return
    place = averages.write(write, out)
    say(f"{place} has the average {write:g} now ({_describe_residual(averages.combination(write).residual)})")
    if out is None:
        say(f"  resuming the run, or --write {own}, restores the default one")


def _possible(averages: "PostHocEma", lengths: list[float]) -> list[float]:
    """The default lengths that the snapshots so far allow; prints those that are skipped."""
    from noisekiln.cli._show import say

    possible = []
    for length in lengths:
        try:
            averages.combination(length)
        except ValueError:
            say(f"  {length:<6g} skipped: not enough snapshots yet")
        else:
            possible.append(length)
    return possible


def _show(averages: "PostHocEma", lengths: list[float], data: str | None) -> None:
    """Generate with every length, and print the error of each and the file of the comparison.

    After Ctrl-C or SIGTERM the current length is finished, and the comparison of those so far is written.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from noisekiln.cli._show import console, say
    from noisekiln.machine.interrupt import Interrupt, exit_code
    from noisekiln.runs.ema_sheet import EmaSheet

    sheet, samples = EmaSheet(averages, data), []
    columns = (TextColumn("sampling"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        Interrupt() as interrupt,
        Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar,
    ):
        for sample in bar.track(sheet.samples(lengths), total=len(lengths)):
            samples.append(sample)
            if interrupt.signal:
                break
    for sample in samples:
        say(f"  {sample.length:<6g} {_describe_residual(sample.residual)}")
    say(f"look at {sheet.save(samples)}")
    if interrupt.signal:
        say(f"stopped: {len(samples)} of {len(lengths)} lengths are compared; the model is not changed")
        raise typer.Exit(exit_code(interrupt.signal))


def _describe_residual(residual: float) -> str:
    """The error of an average, in words."""
    if residual < 1e-6:
        return "exactly one of the tracked averages"
    approximate = ": approximate, far from the tracked lengths" if residual > ROUGH else ""
    return f"error {residual:.1%}{approximate}"


def _lengths(text: str) -> list[float]:
    first, dots, last = text.partition("..")
    try:
        if not dots:
            return [float(word) for word in text.split(",")]
        low, high = float(first), float(last)
        return [float(f"{low + (high - low) * i / (COLUMNS - 1):.3g}") for i in range(COLUMNS)]
    except ValueError:
        raise ValueError(
            f"`length={text}` is no list of lengths. "
            f"Give shares of training, such as 0.03,0.07,0.15, or a range: {DEFAULT}."
        ) from None
