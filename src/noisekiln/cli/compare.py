"""`noisekiln compare`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from noisekiln.cli._options import condition_option
from noisekiln.cli._use import pop_common, with_use

if TYPE_CHECKING:
    from noisekiln.runs.comparison import Comparison
    from noisekiln.runs.comparison_samples import ComparedSamples

EXAMPLE = "noisekiln compare runs/first runs/second"
TITLES, COLUMN, LEAST_COLUMN = 24, 34, 16  # letters: of the first column, of a run's column at most and at least


@with_use(exclude=("count", "seed", "classes", "prompts", "conditions", "adapters", "out"))
def command(
    runs: Annotated[list[Path], typer.Argument(help="Folders of runs, models or cascades: two or more.")],
    out: Annotated[Path, typer.Option(help="Folder for the comparison.")] = Path("runs/comparison"),
    count: Annotated[int, typer.Option("-n", help="Images of each model; 0 for the table and the curves alone.")] = 16,
    seed: Annotated[int, typer.Option(help="Seed of the first image; the same for all models.", min=0)] = 0,
    classes: Annotated[
        list[str] | None, condition_option("--class", help="Class to show: name, number, or all. May repeat.")
    ] = None,
    prompts: Annotated[list[str] | None, condition_option("--prompt", help="Prompt to show. May repeat.")] = None,
    conditions: Annotated[
        list[str] | None, condition_option("--condition", help="Any other condition to show. May repeat.")
    ] = None,
    **options: Any,
) -> None:
    """Compare runs: a table, their curves in one plot, and samples with equal seeds and conditions side by side."""
    from noisekiln.cli._show import say
    from noisekiln.machine.devices import pick_device
    from noisekiln.runs.comparison import Comparison, check_out
    from noisekiln.runs.comparison_samples import ComparedSamples, check_count, check_sampling
    from noisekiln.session.prompts import RequestedConditions
    from noisekiln.uses.request import SampleOptions

    common = pop_common(options)
    SampleOptions(**options, seed=seed)  # these raise for invalid options, before anything is read
    check_sampling(options)
    if count:
        check_count(count)
    check_out(out)
    device = pick_device(common.device)
    comparison = Comparison.open(runs, allow_code=common.allow_code)
    _print_table(comparison)
    for line in comparison.notes:
        say(f"note: {line}")
    lowest = comparison.lowest_held_out
    if lowest is not None:
        say(f"lowest held-out loss: {lowest.name}")
    written = comparison.write(out)
    say(f"wrote {', '.join(map(str, written))}")
    if count:
        requested = RequestedConditions(classes or (), prompts or (), conditions or (), common.negative)
        chosen = {"count": count, "seed": seed, "requested": requested, "device": device, **options}
        samples = ComparedSamples(
            comparison, allow_code=common.allow_code, note=lambda line: say(f"note: {line}"), **chosen
        )
        _show_samples(samples, out)


def _print_table(comparison: "Comparison") -> None:
    """The table, with as many runs beside each other as the terminal is wide."""
    from rich.table import Table
    from rich.text import Text

    from noisekiln.cli._show import console

    runs, rows = comparison.runs, comparison.rows()
    width = max(console.width, 80)
    at_once = max(1, min(len(runs), (width - TITLES) // (LEAST_COLUMN + 2)))
    for first in range(0, len(runs), at_once):
        part = slice(first, first + at_once)
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        table.add_column("", max_width=TITLES, overflow="fold")
        for run in runs[part]:
            table.add_column(Text(run.name, style="bold"), max_width=COLUMN, overflow="fold")
        for title, values in rows:
            if any(value != "-" for value in values[part]):
                table.add_row(Text(title), *map(Text, values[part]))
        console.print(table, width=width)
        console.print()


def _show_samples(samples: "ComparedSamples", out: Path) -> None:
    """Sample with a bar, and write the grids; after Ctrl-C or SIGTERM, those that are finished."""
    import signal
    from contextlib import closing

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from noisekiln.cli._show import console, say
    from noisekiln.errors import printable
    from noisekiln.machine.interrupt import Interrupt, exit_code

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    stopped_by = 0
    try:
        with (
            Interrupt() as interrupt,
            closing(samples.sample()) as steps,
            Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as bar,
        ):
            row, number = bar.add_task("sampling", total=None), 0
            for each in steps:
                if each.number != number:
                    number = each.number
                    bar.reset(row, description=f"sampling {printable(each.name)} ({number} of {each.total})")
                bar.update(row, total=each.steps, completed=each.step)
                if interrupt.signal:
                    stopped_by = interrupt.signal
                    break
    except KeyboardInterrupt:  # the second Ctrl-C
        stopped_by = signal.SIGINT
    file = samples.save(out)
    if stopped_by:
        finished, total = len(samples.finished), len(samples.runs)
        saved = f"; look at {file}" if file else ""
        say(f"stopped: {finished} of {total} models are sampled, the table and the curves are written{saved}")
        raise typer.Exit(exit_code(stopped_by))
    say(f"look at {file}" if file else "no model could be sampled, so there are no grids")
