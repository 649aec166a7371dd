"""A model card: `README.md` of a run, a model or an export, which says what it is, learned from, can do and needs."""

import hashlib
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from noisekiln.components.spec_paths import without_folders
from noisekiln.errors import counted, listed, printable, reason_of
from noisekiln.evaluation.evaluation_report import shown
from noisekiln.files.atomic import atomic_write
from noisekiln.files.card_file import CARD
from noisekiln.logs.json_lines import read_metrics
from noisekiln.plots.curve import curve_of
from noisekiln.runs.made_from import HOW, MadeFrom, source_name
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.run_summary import ModelFacts, RunSummary, read_summary

MARK = "<!-- Written by noisekiln; after a change by hand, it does not write it again. Checksum {checksum} -->"
WRITTEN = re.compile(re.escape(MARK).replace(re.escape("{checksum}"), "([0-9a-f]{16})"))
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
OPTIONS = {"text": "prompt", "class": "class"}  # of the command that samples, by the kind of a condition


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
    front = f"---\n{yaml.safe_dump(_front_matter(summary, license, library), sort_keys=False).rstrip()}\n---\n\n"
    parts = [
        f"# {name}",
        _what_it_is(summary),
        *_shown_pictures(summary),
        "## Sample it\n\n" + (use or _how_to_sample(summary, f"hf:{repository}" if repository else ".")),
        "## Data\n\n" + _about_data(summary),
        "## Training\n\n" + _as_table(_training_facts(summary)),
        *_figures(summary),
        f"## Licence\n\n{license or NO_LICENSE}",
        *map(_about_source, summary.made_from),
    ]
    rest = "\n\n" + "\n\n".join(parts) + "\n"
    return front + MARK.format(checksum=_card_checksum(front + rest)) + rest


def write_card(folder: Path, model: ModelFacts, *, images_seen: int, seconds: float) -> None:
    """Write the card of a run at the end of training, unless a person has changed the one that is there.

    Args:
        folder: Folder of the run.
        model: What is known of its model.
        images_seen: Images seen by now, which its log may not say yet.
        seconds: Seconds of training by now.
    """
    if not is_changed(folder / CARD):
        summary = read_summary(folder, folder.resolve().name, model=model)
        _write(replace(summary, lines=[*summary.lines, {"images_seen": images_seen, "seconds": seconds}]))


def rewrite_card(folder: Path, model: ModelFacts) -> str:
    """Write the card of a run again, with what its folder says now; returns a note if it is left as it is, else "".

    Args:
        folder: Folder of the run.
        model: What is known of its model.
    """
    try:
        if is_changed(folder / CARD):
            known = "was changed by hand" if _has_mark(folder / CARD) else "is by hand or of an earlier noisekiln"
            return f"{CARD} {known}, and stays as it is; delete {CARD} to get a new one from the next evaluation"
        _write(read_summary(folder, folder.resolve().name, model=model))
    except (OSError, ValueError) as error:
        return f"{CARD} could not be written ({reason_of(error)})"
    return ""


def is_changed(file: Path) -> bool:
    """Whether a card is one that a person has written or changed."""
    if not file.exists():
        return False
    text = file.read_text(encoding="utf-8", errors="replace")
    mark = WRITTEN.search(text)
    return mark is None or mark[1] != _card_checksum(text.replace(mark[0], "", 1))


def _has_mark(file: Path) -> bool:
    """Whether this version, or a later one, has written a card first."""
    return WRITTEN.search(file.read_text(encoding="utf-8", errors="replace")) is not None


def _write(summary: RunSummary) -> None:
    with atomic_write(summary.folder / CARD) as draft:
        draft.write_text(model_card(summary), encoding="utf-8", errors="backslashreplace")


def _card_checksum(text: str) -> str:
    """16 hex digits of a card without its mark, as it stands in a file."""
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def newest_grid(folder: Path) -> Path | None:
    """The newest grid of samples of a run; None without one."""
    return max((file for file in (folder / "samples").glob("*.png") if file.stem.isdecimal()), default=None)


def _front_matter(summary: RunSummary, license: str, library: str) -> dict[str, Any]:
    model = summary.model
    kind = "" if model is None or model.conditioner is None else model.conditioner.kind
    task = "image-to-image" if model is not None and model.task else TAGS.get(kind, TAGS[""])
    bases = [base.repository for base in summary.made_from if base.repository]
    return {
        "license": license or "unknown",
        **({"base_model": bases} if bases else {}),
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
    task = f" Its task is `{without_folders(model.task).spec}`: it starts from an image." if model.task else ""
    codec = f", and a codec, {model.codec}" if model.codec else ""
    stages = len(model.networks)
    kind = f"cascade of {stages} diffusion models" if _is_cascade(summary) else "diffusion model"
    networks = ", ".join(f"`{without_folders(network).spec}`" for network in model.networks)
    return (
        f"A {kind} of {colours} images of {height}x{width} pixels, {conditions}. "
        f"It has {model.parameters:,} parameters ({networks}{codec}), "
        f"and was {_how_made(summary)} with [noisekiln](https://pypi.org/project/noisekiln).{task}"
    )


def _is_cascade(summary: RunSummary) -> bool:
    return summary.model is not None and summary.model.kind == "Cascade"


def _how_made(summary: RunSummary) -> str:
    if not summary.settings:
        return "saved"
    return listed([f"{base.how} `{base.name}`" for base in summary.made_from]) or "trained from scratch"


def _about_source(base: MadeFrom) -> str:
    """The licence of a model that this one was made from."""
    where = "the model's page" if base.repository else "where it came from"
    known = f"`{base.license}` by its card" if base.license else f"unknown here: look at {where}"
    return f"It was {base.how} `{base.name}`, whose licence is {known}. That licence has to allow this model's."


def _shown_pictures(summary: RunSummary) -> list[str]:
    folder, grid = summary.folder, newest_grid(summary.folder)
    caption = "Samples" if _is_cascade(summary) else "Samples: current weights left, averaged ones right"
    shown = [] if grid is None else [(f"samples/{grid.name}", caption)]
    shown += [picture for picture in PICTURES if (folder / picture[0]).is_file()]
    return [f"![{text}]({file})" for file, text in shown]


def _how_to_sample(summary: RunSummary, name: str) -> str:
    model = summary.model
    cond = None if model is None else model.conditioner
    here = "In this folder:\n\n" if name == "." else ""
    if model is not None and model.task:
        return f"{here}```bash\npip install noisekiln\nnoisekiln apply {shlex.quote(name)} image.png\n```"
    example = "" if cond is None else printable(cond.example())
    kind = "" if cond is None else cond.kind
    option = f" --{OPTIONS[kind]} {shlex.quote(example)}" if example and kind in OPTIONS else ""
    conditions = f"[{example or '...'!r}] * 16" if kind in OPTIONS else "16"
    return (
        f"{here}```bash\npip install noisekiln\nnoisekiln sample {shlex.quote(name)}{option} -n 16\n```\n\n"
        f'```python\nimport noisekiln as nk\n\nimages = nk.load("{name}").sample({conditions}, seed=0)  '
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
    codec = curve_of(read_metrics(RunFolder(summary.folder).codec), "images_seen").values
    if len(codec):
        rows["Before that, its codec"] = f"{int(max(codec)):,} images"
    if summary.loss is not None:
        rows["Training loss, its running mean"] = f"{summary.loss:.4g}"
    if summary.held_out is not None:
        rows["Lowest held-out loss"] = f"{summary.held_out[0]:.4g} after {summary.held_out[1]:,} images"
    if summary.verdict:
        rows["Held-out images say"] = summary.verdict
    for name in SETTINGS:
        value = summary.setting(name)
        if value is not None:
            rows[f"`{name}`"] = f"`{source_name(str(value)) if name in HOW else without_folders(str(value)).spec}`"
    used = {name: summary.setting(name) for name in ("sampler", "steps", "guidance", "schedule")}
    used = {name: without_folders(str(value)).spec for name, value in used.items() if value is not None}
    sampling = ", ".join(f"{name}={value}" for name, value in used.items())
    return rows | ({"Default sampling": f"`{sampling}`"} if sampling else {})


def _figures(summary: RunSummary) -> list[str]:
    """The figures of `noisekiln evaluate`; without it, how to get them."""
    if not summary.scores:
        return [
            "## Figures\n\n`noisekiln evaluate` measures quality, variety and copies. It had not run when "
            "this was written; it writes its figures into the card of a run."
        ]
    rows = {_title(summary, name): _beside_real(score) for name, score in summary.scores.items()}
    count = summary.evaluation.get("count")
    samples = f", from {counted(count, 'sample')}" if isinstance(count, int) else ""
    return [f"## Figures\n\nOf `noisekiln evaluate`{samples}, and in brackets of real images:\n\n" + _as_table(rows)]


def _title(summary: RunSummary, name: str) -> str:
    """The title of a score, as the evaluation shows it."""
    return str(summary.evaluation["scores"][name].get("title", name))


def _beside_real(score: Mapping[str, float]) -> str:
    """A score, and that of real images, if it is known."""
    own = shown(score["value"], score.get("spread", 0.0))
    return f"{own} ({shown(score['real'], score.get('real_spread', 0.0))})" if "real" in score else own


def _as_table(rows: Mapping[str, str]) -> str:
    lines: Iterable[str] = (f"| {name} | {value} |" for name, value in rows.items())
    return "\n".join(["| | |", "|---|---|", *lines]) if rows else "Not recorded in this folder."
