"""`noisekiln evaluate`."""

from pathlib import Path
from typing import Annotated, Any

import typer

from noisekiln.cli._options import AllowCode, option, with_settings
from noisekiln.evaluation.evaluation_options import EvaluationOptions

EXAMPLE = "noisekiln evaluate runs/demo --fast"


@with_settings(EvaluationOptions)
def command(
    run: Annotated[Path, typer.Argument(help="Folder of a run, a model or a cascade; or a folder of samples.")],
    against: Annotated[
        Path | None, option(help="Real images to compare with. Default: those that the run was trained on.")
    ] = None,
    out: Annotated[
        Path | None, option(help="Folder for the report. Default: that of the run; for samples, runs/evaluation.")
    ] = None,
    device: Annotated[str, option(help="auto, cpu, cuda or mps.")] = "auto",
    allow_code: AllowCode = False,
    **options: Any,
) -> None:
    """Evaluate a model: quality, variety and copying in numbers, words and pictures."""
    from noisekiln.cli._evaluation import evaluate_with_bar, say_report
    from noisekiln.paths import expand_home
    from noisekiln.runs.evaluate import is_model

    place = expand_home(out or (run if is_model(run) else Path("runs/evaluation")))
    report = evaluate_with_bar(run, against=against, out=place, device=device, allow_code=allow_code, **options)
    say_report(report, place)
