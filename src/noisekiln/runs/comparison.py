"""Runs side by side: a table, their curves in one figure, and what of them cannot be compared."""

import html
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from noisekiln.errors import WouldOverwrite, counted, listed, reason_of
from noisekiln.files.atomic import remove_whatever
from noisekiln.files.json_file import write_json
from noisekiln.files.system_files import entries_of
from noisekiln.plots.comparison_curves import draw_comparison
from noisekiln.plots.figure import save_figure
from noisekiln.runs.comparison_table import Row, rows_of_runs
from noisekiln.runs.run_summary import RunSummary, read_summary, unique_names
from noisekiln.version import VERSION

JSON_FILE, GRIDS = "compare.json", "grids.png"
CURVES = ("curves.png", "curves.svg")
HELD_OUT_KEYS = ("images", "size", "task", "prediction", "codec")
EVALUATION_KEYS = ("number of images", "real images", "features")


class Comparison:
    """A comparison of runs and models, from what their folders say; nothing is changed in them.

    Args:
        runs: Their summaries.
        notes: What was left out, one line each.

    Attributes:
        notes: What was left out, and what cannot be compared, one line each.
    """

    def __init__(self, runs: Sequence[RunSummary], notes: Iterable[str] = ()) -> None:
        self.runs = tuple(runs)
        own = [f"{run.name}: {line}" for run in self.runs for line in run.notes]
        self.notes = [*notes, *own, *_without_log(self.runs), *_incomparable(self.runs), *_outdated(self.runs)]

    @classmethod
    def open(cls, folders: Sequence[Path], *, allow_code: bool = False) -> "Comparison":
        """The comparison of these folders; one that is neither a run nor a model is left out, with a note.

        Args:
            folders: Folders of runs, models or cascades.
            allow_code: Whether Python files that the models name may be run.

        Raises:
            ValueError: If there are fewer than two runs or models.
        """
        different: dict[Path, Path] = {}
        for folder in folders:
            different.setdefault(folder.resolve(), folder)
        notes, runs = [], []
        if len(different) < len(folders):
            notes.append("the same folder was given more than once; it is compared once")
        for folder, name in zip(different.values(), unique_names(list(different)), strict=True):
            try:
                runs.append(read_summary(folder, name, allow_code=allow_code))
            except ValueError as error:
                notes.append(f"left out: {reason_of(error, 600)}")
        if len(runs) < 2:
            why = f" ({'; '.join(notes[:3])})" if notes else ""
            raise ValueError(
                f"Of {counted(len(folders), 'folder')}, {len(runs)} can be compared{why}, and a comparison needs two "
                "or more. Give the folders of two runs, such as runs/a runs/b."
            )
        return cls(runs, notes)

    def rows(self) -> list[Row]:
        """The table: title of a property, and its value for each run as text."""
        return rows_of_runs(self.runs)

    @property
    def lowest_held_out(self) -> RunSummary | None:
        """The run with the lowest held-out loss; None if they cannot be compared, or fewer than two have one."""
        having = [run for run in self.runs if run.held_out is not None]
        if len(having) < 2 or _differing(having, held_out_key, HELD_OUT_KEYS):
            return None
        return min(having, key=lambda run: run.held_out or (0.0, 0))

    def as_dict(self) -> dict[str, Any]:
        """Everything in numbers, for JSON."""
        lowest = self.lowest_held_out
        return {
            "noisekiln": VERSION,
            "runs": [_record(run) for run in self.runs],
            "table": dict(self.rows()),
            "lowest_held_out": None if lowest is None else lowest.name,
            "notes": self.notes,
        }

    def write(self, out: Path) -> list[Path]:
        """Write the table as `compare.json` and the curves as `curves.png` and `curves.svg`; returns what was written.

        Pictures of an earlier comparison are removed.

        Raises:
            WouldOverwrite: If the folder holds anything else than an earlier comparison.
        """
        check_out(out)
        out.mkdir(parents=True, exist_ok=True)
        for name in (*CURVES, GRIDS):
            remove_whatever(out / name)
        write_json(out / JSON_FILE, self.as_dict())
        written = [out / JSON_FILE]
        figure = draw_comparison([(run.name, run.lines) for run in self.runs if run.lines])
        for name in CURVES if figure is not None else ():
            assert figure is not None
            save_figure(figure, out / name, {"command": "compare", "models": [run.name for run in self.runs]})
            written.append(out / name)
        return written

    def _repr_html_(self) -> str:
        """The table, in a notebook."""
        lines = [("", [run.name for run in self.runs]), *self.rows()]
        rows = ["".join(f"<td>{html.escape(cell)}</td>" for cell in (title, *values)) for title, values in lines]
        return f"<table>{''.join(f'<tr>{row}</tr>' for row in rows)}</table>"


def check_out(out: Path) -> None:
    """Raise an error if a folder for a comparison holds anything else."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"`out={out}` is a file, and a comparison is several files. Give a new folder.")
    entries = entries_of(out) if out.exists() else []
    others = [entry.name for entry in entries if entry.name not in (JSON_FILE, GRIDS, *CURVES)]
    if entries and not (out / JSON_FILE).is_file():
        others = [entry.name for entry in entries]
    if others:
        raise WouldOverwrite(out, f"files that are not of a comparison ({listed(others, 3)})")


def held_out_key(run: RunSummary) -> tuple[str, ...]:
    """What two held-out losses have to share, so that they can be compared; as `HELD_OUT_KEYS` names it."""
    size = run.model.size if run.model else run.data.get("size")
    codec = run.setting("codec")
    parts = (run.data.get("fingerprint"), tuple(size or ()), run.setting("task"), run.setting("prediction"))
    return tuple(map(str, (*parts, "pixels" if codec is None else codec)))


def evaluation_key(run: RunSummary) -> tuple[str, ...]:
    """What two evaluations have to share, as `EVALUATION_KEYS` names it."""
    return tuple(str(run.evaluation.get(name)) for name in ("count", "real", "features"))


def _differing(
    runs: Sequence[RunSummary], key: Callable[[RunSummary], tuple[str, ...]], names: Sequence[str]
) -> list[str]:
    """Names of the parts of a key that are not the same for all runs."""
    columns = zip(*(key(run) for run in runs), strict=True)
    return [name for name, column in zip(names, columns, strict=True) if len(set(column)) > 1]


def _incomparable(runs: Sequence[RunSummary]) -> list[str]:
    with_losses = [run for run in runs if run.held_out is not None]
    with_scores = [run for run in runs if run.scores]
    lines = []
    if len(with_losses) > 1 and (parts := _differing(with_losses, held_out_key, HELD_OUT_KEYS)):
        lines.append(f"held-out losses are not comparable between all of these runs: they differ in {', '.join(parts)}")
    elif len({run.noisy_images for run in with_losses}) > 1:
        counts = ", ".join(f"{run.name}: {run.noisy_images}" for run in with_losses)
        lines.append(
            f"held-out losses are of different numbers of noisy images ({counts}): small differences say little"
        )
    if len(with_scores) > 1 and (parts := _differing(with_scores, evaluation_key, EVALUATION_KEYS)):
        lines.append(f"scores are not comparable between all of these runs: they differ in {', '.join(parts)}")
    return lines


def _without_log(runs: Sequence[RunSummary]) -> list[str]:
    names = [run.name for run in runs if not run.lines]
    return [f"{listed(names, 6)}: without the log of a training, so without curves"] if names else []


def _outdated(runs: Sequence[RunSummary]) -> list[str]:
    """Notes on evaluations of a model that was trained further since."""
    found = [(run, run.evaluation.get("images_seen")) for run in runs if run.scores]
    return [
        f"{run.name}: its scores are those after {seen:,} of {run.images_seen:,} images"
        for run, seen in found
        if isinstance(seen, int) and run.images_seen is not None and seen < run.images_seen
    ]


def _record(run: RunSummary) -> dict[str, Any]:
    value, images = run.held_out or (None, None)
    return {
        "name": run.name,
        "folder": str(run.folder),
        "data": run.data.get("name"),
        "size": list(run.model.size) if run.model else run.data.get("size"),
        "parameters": run.model.parameters if run.model else None,
        "images_seen": run.images_seen,
        "seconds": run.seconds,
        "share": run.share,
        "trains": run.trains,
        "images_per_second": run.images_per_second,
        "loss": run.loss,
        "held_out": value,
        "held_out_images_seen": images,
        "verdict": run.verdict or None,
        "scores": run.scores,
        "settings": {str(name): value for name, value in run.settings.items()},
    }
