"""The plots of a run's log as files: PNG and SVG."""

from collections.abc import Sequence
from pathlib import Path

from noisekiln.errors import NoisekilnError
from noisekiln.files.model_folder import model_folder
from noisekiln.logs.json_lines import FILE, damage_of_log, read_metrics
from noisekiln.plots.figure import save_figure
from noisekiln.plots.run_curves import draw_run
from noisekiln.runs.refusals import check_single_run

NAMES = ("curves.png", "curves.svg")
RUN_FILES = ("run.yaml", FILE)  # by which a run is recognised


def plot_run(run: Path, files: Sequence[Path]) -> str:
    """Write the curves of a run, in as many formats as there are files; returns what was left out, in one line, or "".

    Args:
        run: Folder of the run, which may be training.
        files: Files for the plot, each .png or .svg.

    Raises:
        ValueError: If there is no run, or its log has nothing to draw yet.
    """
    check_is_run(run)
    check_single_run(run)
    name = run.resolve().name
    figure = draw_run(read_metrics(run), name, complete=True)
    damage = damage_of_log(run)
    if figure is None:
        why = damage or f"{FILE} has no numbers yet" if (run / FILE).exists() else f"it holds no {FILE} yet"
        raise ValueError(
            f"{run} has nothing to plot: {why}. The first line is written after the first step; train it, or give "
            "another run."
        )
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, file, {"command": "plot", "model": name})
    return damage


def check_is_run(folder: Path) -> None:
    """Raise ValueError if a folder is not that of a run."""
    if folder.is_dir() and any((folder / name).exists() for name in RUN_FILES):
        return
    if not folder.exists():
        raise ValueError(f"There is no folder {str(folder)!r}. Give the folder of a run, such as runs/demo.")
    try:
        place = model_folder(folder)
    except (ValueError, NoisekilnError):
        raise ValueError(
            f"{str(folder)!r} is not a run: it holds neither run.yaml nor {FILE}. "
            "Give a folder that `noisekiln train` has written."
        ) from None
    inside = f", such as {place.parent}" if any((place.parent / name).exists() for name in RUN_FILES) else ""
    raise ValueError(
        f"{str(folder)!r} is a model without the log of its training, so it has no curves. "
        f"Give the folder of the run that trained it{inside}."
    )
