"""The table of a comparison of runs, as text: a row for each property, a column for each run."""

from collections.abc import Callable, Sequence
from math import floor
from typing import Any

from noisekiln.errors import counted, shorten
from noisekiln.evaluation.evaluation_report import shown
from noisekiln.plots.curve import curve_of, is_number
from noisekiln.plots.run_curves import SCORES, in_words
from noisekiln.runs.run_summary import RunSummary

NOT_KNOWN = "-"
MOST_SETTINGS = 12  # rows of settings that differ
MOST_SCORES = 20
SHOWN_ELSEWHERE = frozenset({
    *("data", "size", "task", "cond", "backbone", "model", "start", "lora", "minutes", "images", "epochs"),
    *("sampler", "steps", "guidance", "schedule"),  # beside the samples
    *("curves", "score", "keep_checkpoints", "keep_every", "ema_snapshots", "timeout"),  # change no result
})  # fmt: skip

Row = tuple[str, list[str]]


def rows_of_runs(runs: Sequence[RunSummary]) -> list[Row]:
    """The rows: title, and the value of each run; rows that no run has a value for are left out."""
    rows = [(title, [value(run) or NOT_KNOWN for run in runs]) for title, value in ROWS]
    settings = [
        (name, [_setting_as_text(run, name) for run in runs]) for name in differing_settings(runs)[:MOST_SETTINGS]
    ]
    place = next(number for number, (title, _) in enumerate(rows) if title == "budget")
    rows[place:place] = settings
    names = dict.fromkeys(name for run in runs for name in run.scores)
    rows += [
        (_title_of_score(name, runs), [_score_with_spread(run, name) for run in runs])
        for name in list(names)[:MOST_SCORES]
    ]
    rows += [(f"last {title} in training", [_last_score(run, name) for run in runs]) for name, title in SCORES.items()]
    questions = dict.fromkeys(question for run in runs for question in _conclusions(run))
    rows += [(question, [_conclusions(run).get(question, NOT_KNOWN) for run in runs]) for question in questions]
    return [(title, values) for title, values in rows if any(value != NOT_KNOWN for value in values)]


def differing_settings(runs: Sequence[RunSummary]) -> list[str]:
    """Names of the settings that two runs have different values of, apart from those with rows of their own."""
    known = [run for run in runs if run.settings]
    names = dict.fromkeys(name for run in known for name in run.settings)
    return [
        name for name in names if name not in SHOWN_ELSEWHERE and len({str(run.setting(name)) for run in known}) > 1
    ]


def _data_of_run(run: RunSummary) -> str:
    name, images = run.data.get("name") or run.setting("data"), run.data.get("images")
    count = f" ({counted(images, 'image')})" if isinstance(images, int) else ""
    return f"{shorten(str(name), 60)}{count}" if name else ""


def _size_and_channels(run: RunSummary) -> str:
    size: Any = run.model.size if run.model else run.data.get("size")
    channels: Any = run.model.channels if run.model else run.data.get("channels")
    if not isinstance(size, list | tuple) or len(size) != 2:
        return ""
    kind = {1: "grey", 3: "RGB", 4: "RGBA"}.get(channels, f"{channels} channels")
    return f"{size[0]}x{size[1]} {kind}"


def _task_of_run(run: RunSummary) -> str:
    task = run.model.task if run.model else run.setting("task")
    return "" if task in ("generate", None) else str(task)


def _kind_of_condition(run: RunSummary) -> str:
    if run.model is None:
        return str(run.setting("cond") or "")
    conditioner = run.model.conditioner
    if conditioner is None or run.setting("cond") == "none":
        return "none"
    if conditioner.choices:
        return f"{len(conditioner.choices):,} {conditioner.plural}"
    return conditioner.kind


def _network_specs(run: RunSummary) -> str:
    specs = run.model.networks if run.model and run.model.networks else [run.setting("backbone") or ""]
    return "; ".join(shorten(str(spec), 200) for spec in specs)


def _parameter_count(run: RunSummary) -> str:
    return "" if run.model is None else count_in_words(run.model.parameters)


def count_in_words(count: int) -> str:
    """A number of parameters: "0.78M", "12.4k"."""
    return f"{count / 1e6:.3g}M" if count >= 100_000 else f"{count / 1e3:.3g}k" if count >= 1000 else str(count)


def _started_from(run: RunSummary) -> str:
    start, rank = run.setting("start"), run.setting("lora")
    if not start:
        return ""
    return f"adapter of rank {rank} for {start}" if rank else str(start)


def _budget_of_run(run: RunSummary) -> str:
    units = {"minutes": "minute", "images": "image", "epochs": "epoch"}
    budgets = {noun: run.setting(name) for name, noun in units.items()}
    return ", ".join(counted(value, noun) for noun, value in budgets.items() if is_number(value))


def _progress_of_run(run: RunSummary) -> str:
    share = "" if run.share is None else "done" if run.share >= 1 else f"{floor(100 * run.share)}% of the budget"
    now = "trains at this moment" if run.trains else ""
    return ", ".join(filter(None, [now, "" if run.trains and share == "done" else share]))


def _best_held_out(run: RunSummary) -> str:
    if run.held_out is None:
        return ""
    value, images = run.held_out
    last = images == max(curve_of(run.lines, "held_out").x)
    return f"{value:.4f}" if last else f"{value:.4f} (after {images:,} images)"


def _formatted(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


ROWS: list[tuple[str, Callable[[RunSummary], str]]] = [
    ("data", _data_of_run),
    ("images", _size_and_channels),
    ("task", _task_of_run),
    ("condition", _kind_of_condition),
    ("network", _network_specs),
    ("parameters", _parameter_count),
    ("started from", _started_from),
    ("budget", _budget_of_run),
    ("progress", _progress_of_run),
    ("images seen", lambda run: _formatted(run.images_seen, ",")),
    ("training time", lambda run: "" if run.seconds is None else in_words(run.seconds)),
    ("images/s", lambda run: _formatted(run.images_per_second, ",.0f")),
    ("training loss", lambda run: _formatted(run.loss, ".4f")),
    ("best held-out loss", _best_held_out),
    ("verdict", lambda run: run.verdict),
]


def _setting_as_text(run: RunSummary, name: str) -> str:
    value = run.setting(name)
    return NOT_KNOWN if value is None else shorten(str(value), 100)


def _score_with_spread(run: RunSummary, name: str) -> str:
    score = run.scores.get(name)
    if score is None:
        return NOT_KNOWN
    value, *spread = shown(score["value"], score.get("spread", 0.0)).split(" ", 1)
    real = f" (real {shown(score['real'], 0.0).split(' ')[0]})" if "real" in score else ""
    return " ".join([value, *(spread if "spread" in score else [])]) + real


def _title_of_score(name: str, runs: Sequence[RunSummary]) -> str:
    """The title of a score in the evaluations, if they have one."""
    found = [run.evaluation["scores"].get(name) for run in runs if run.scores]
    titles = [score["title"] for score in found if isinstance(score, dict) and isinstance(score.get("title"), str)]
    return shorten((titles or [SCORES.get(name, name)])[0], 30)


def _last_score(run: RunSummary, name: str) -> str:
    values = curve_of(run.lines, name).values
    return f"{values[-1]:.4g}" if len(values) else NOT_KNOWN


def _conclusions(run: RunSummary) -> dict[str, str]:
    """The grade of each question of an evaluation."""
    found: Any = run.evaluation.get("conclusions")
    entries = [entry for entry in found if isinstance(entry, dict)] if isinstance(found, list) else []
    return {
        shorten(str(entry["question"]), 30): shorten(str(entry["grade"]), 30)
        for entry in entries
        if entry.get("question") and entry.get("grade")
    }
