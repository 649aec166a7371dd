"""A model card: `README.md` of a run, a model or an export, which says what it is, learned from, can do and needs."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from noisekiln.errors import counted, listed
from noisekiln.evaluation.evaluation_report import shown
from noisekiln.files.atomic import atomic_write
from noisekiln.runs.run_summary import ModelFacts, RunSummary, read_summary

FILE = "README.md"
MARK = "<!-- Written by noisekiln. Remove this line, and it will not be written again. -->"
NO_LICENSE = (
    "None is stated. Whoever publishes this model should state one that the licence of its images allows: "
    "`license:` at the top of this file."
)
TAGS = {"text": "text-to-image", "": "unconditional-image-generation"}  # by the kind of a condition
PICTURES = (("loss.png", "Loss during training"), ("denoising.gif", "How samples form"))
SETTINGS = (
    "objective", "prediction", "draw", "loss_weight", "optimizer", "lr", "batch_size", "ema_length", "cond_dropout",
    "precision", "seed", "lora", "start", "teacher",
)  # fmt: skip
BUDGETS = ("minutes", "images", "epochs")
LOCAL = ("start", "teacher")  # settings that may be paths: their last part is shown


def model_card(
    summary: RunSummary,
    *,
    license: str = "",
    library: str = "noisekiln",
    use: str = "",
    name: str = "",
    repository: str = "",
) -> str:
    """The text of a model card, in Markdown with the front matter of the Hugging Face Hub.

    Args:
        summary: What the folder of the run or the model says.
        license: Licence of the model, as the Hub names it, such as "cc-by-4.0"; "" if none is stated.
        library: Library that opens it: "noisekiln", "diffusers" or "onnx".
        use: How to sample, in Markdown; by default with noisekiln.
        name: Name of the model; that of the folder by default.
        repository: Its name on the Hub, "user/name", if it is there.
    """
    name = name or summary.folder.resolve().name
    parts = [
        f"---\n{yaml.safe_dump(_front_matter(summary, license, library), sort_keys=False).rstrip()}\n---",
        MARK,
        f"# {name}",
        _what_it_is(summary),
        *_shown_pictures(summary.folder),
        "## Sample it\n\n" + (use or _how_to_sample(summary, f"hf:{repository}" if repository else name)),
        "## Data\n\n" + _about_data(summary),
        "## Training\n\n" + _as_table(_training_facts(summary)),
        *_figures(summary),
        f"## Licence\n\n{license or NO_LICENSE}",
    ]
    return "\n\n".join(parts) + "\n"


def write_card(folder: Path, model: ModelFacts, *, images_seen: int, seconds: float) -> None:
    """Write the card of a run into its folder, unless a person has changed the one that is there.

    Args:
        folder: Folder of the run.
        model: What is known of its model.
        images_seen: Images seen by now, which its log may not say yet.
        seconds: Seconds of training by now.
    """
    file = folder / FILE
    if not is_changed(file):
        summary = read_summary(folder, folder.resolve().name, model=model)
        summary = replace(summary, lines=[*summary.lines, {"images_seen": images_seen, "seconds": seconds}])
        with atomic_write(file) as draft:
            draft.write_text(model_card(summary), encoding="utf-8", errors="backslashreplace")


def is_changed(file: Path) -> bool:
    """Whether a card is one that a person has written."""
    return file.exists() and MARK not in file.read_text(encoding="utf-8", errors="replace")


def newest_grid(folder: Path) -> Path | None:
    """The newest grid of samples of a run; None without one."""
    return max((file for file in (folder / "samples").glob("*.png") if file.stem.isdecimal()), default=None)


def _front_matter(summary: RunSummary, license: str, library: str) -> dict[str, Any]:
    model = summary.model
    kind = "" if model is None or model.conditioner is None else model.conditioner.kind
    task = "image-to-image" if model is not None and model.task else TAGS.get(kind, TAGS[""])
    return {
        "license": license or "unknown",
        "library_name": library,
        "pipeline_tag": task,
        "tags": list(dict.fromkeys(["noisekiln", "diffusion", "image-generation", library])),
    }


def _what_it_is(summary: RunSummary) -> str:
    model = summary.model
    if model is None:
        return "A diffusion model, trained with [noisekiln](https://pypi.org/project/noisekiln)."
    height, width = model.size
    colours = {1: "grey", 3: "colour"}.get(model.channels, f"{model.channels}-channel")
    cond = model.conditioner
    names = f" ({listed(cond.choices, 12)})" if cond is not None and cond.choices else ""
    conditions = "without conditions" if cond is None else f"conditioned on {cond.plural}{names}"
    task = f" Its task is `{model.task}`: it starts from an image." if model.task else ""
    networks = ", ".join(f"`{network}`" for network in model.networks)
    return (
        f"A diffusion model of {colours} images of {height}x{width} pixels, {conditions}. "
        f"It has {model.parameters:,} parameters ({networks}), "
        f"and was {_how_made(summary)} with [noisekiln](https://pypi.org/project/noisekiln).{task}"
    )


def _how_made(summary: RunSummary) -> str:
    if not summary.settings:
        return "saved"
    return "fine-tuned from another model" if summary.setting("start") else "trained from scratch"


def _shown_pictures(folder: Path) -> list[str]:
    grid = newest_grid(folder)
    shown = [] if grid is None else [(f"samples/{grid.name}", "Samples: current weights left, averaged ones right")]
    shown += [picture for picture in PICTURES if (folder / picture[0]).is_file()]
    return [f"![{text}]({file})" for file, text in shown]


def _how_to_sample(summary: RunSummary, name: str) -> str:
    model = summary.model
    cond = None if model is None else model.conditioner
    if model is not None and model.task:
        return f"```bash\npip install noisekiln\nnoisekiln apply {name} image.png\n```"
    wanted = {"text": '["..."] * 16', "class": "[0] * 16"}.get("" if cond is None else cond.kind, "16")
    return (
        f"```bash\npip install noisekiln\nnoisekiln sample {name} -n 16\n```\n\n"
        f'```python\nimport noisekiln as nk\n\nimages = nk.load("{name}").sample({wanted}, seed=0)  '
        "# (16, H, W, C) uint8\n```"
    )


def _about_data(summary: RunSummary) -> str:
    data = summary.data
    if not data:
        return "Not recorded in this folder."
    size = "x".join(map(str, data.get("size", ())))
    line = f"`{Path(str(data.get('name', 'unknown'))).name}`: {counted(data.get('images', 0), 'image')} to train on"
    line += f", {data.get('held_out', 0):,} held out" if data.get("held_out") else ""
    names = data.get("class_names") or ()
    classes = f" Classes: {listed(names, 30)}." if names else ""
    return f"{line}, {size} pixels; fingerprint `{data.get('fingerprint', '')}`.{classes}"


def _training_facts(summary: RunSummary) -> dict[str, str]:
    budget = [f"{summary.setting(name):g} {name}" for name in BUDGETS if summary.setting(name) is not None]
    rows = {"Budget": ", ".join(budget)} if budget else {}
    if summary.images_seen is not None:
        rows["Images seen"] = f"{summary.images_seen:,}"
    if summary.seconds is not None:
        time = f"{summary.seconds / 60:.1f} minutes" if summary.seconds > 60 else f"{summary.seconds:.0f} seconds"
        rows["Time"] = f"{time} on `{summary.setting('device')}`"
    if summary.loss is not None:
        rows["Training loss, its running mean"] = f"{summary.loss:.4g}"
    if summary.held_out is not None:
        rows["Lowest held-out loss"] = f"{summary.held_out[0]:.4g} after {summary.held_out[1]:,} images"
    if summary.verdict:
        rows["Held-out images say"] = summary.verdict
    for name in SETTINGS:
        value = summary.setting(name)
        if value is not None:
            rows[f"`{name}`"] = f"`{Path(str(value)).name if name in LOCAL else value}`"
    sampling = [f"{name}={summary.setting(name)}" for name in ("sampler", "steps", "guidance", "schedule")]
    return rows | ({"Default sampling": f"`{', '.join(sampling)}`"} if summary.settings else {})


def _figures(summary: RunSummary) -> list[str]:
    """The figures of `noisekiln evaluate`; without it, how to get them."""
    if not summary.scores:
        return [
            "## Figures\n\n`noisekiln evaluate` measures quality, variety and copies. It had not run when this was "
            "written; `noisekiln push` writes what it found."
        ]
    rows = {name: shown(score["value"], score.get("spread", 0.0)) for name, score in summary.scores.items()}
    return ["## Figures\n\nOf `noisekiln evaluate`:\n\n" + _as_table(rows)]


def _as_table(rows: Mapping[str, str]) -> str:
    lines: Iterable[str] = (f"| {name} | {value} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines]) if rows else "Not recorded in this folder."
