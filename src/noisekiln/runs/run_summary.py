"""What the folder of a run or a model says about it: data, network, budget, progress, losses and scores."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Codec, pixels_per_position
from noisekiln.components.registry import name_of
from noisekiln.components.spec import describe
from noisekiln.conditioners.base import Conditioner
from noisekiln.errors import reason_of
from noisekiln.files.json_file import read_json
from noisekiln.files.model_folder import model_folder
from noisekiln.files.yaml_file import read_yaml
from noisekiln.logs.json_lines import FILE as LOG
from noisekiln.logs.json_lines import damage_of_log, read_metrics
from noisekiln.machine.lock import Lock
from noisekiln.model.cascade import load
from noisekiln.model.model import Model
from noisekiln.monitor.held_out import FILE as HELD_OUT
from noisekiln.monitor.held_out import read_evaluations
from noisekiln.monitor.verdict import verdict
from noisekiln.plots.curve import Curve, curve_of, is_number, smoothed
from noisekiln.runs.made_from import MadeFrom, read_made_from

EVALUATION = "evaluation.json"  # of `noisekiln evaluate`
CONTEXT = ("channels", "vector", "image")  # arguments of a network that follow from images and conditions


@dataclass(frozen=True)
class ModelFacts:
    """What is known of a model once it was loaded, without its weights.

    Attributes:
        kind: Its class: "Diffusion" or "Cascade".
        size: Height and width of its images.
        channels: Their channels.
        parameters: Number of its parameters.
        conditioner: Its conditioner, or None.
        task: Spec of its task, or "".
        networks: Spec of its network; of a cascade, that of each stage.
        codec: What its codec makes of images, if that has weights and is no part of a cascade, or "".
    """

    kind: str
    size: tuple[int, int]
    channels: int
    parameters: int
    conditioner: Conditioner | None
    task: str
    networks: tuple[str, ...]
    codec: str = ""

    @classmethod
    def of(cls, model: Model) -> "ModelFacts":
        """The facts of a model."""
        task = "" if model.task is None else describe(model.task)
        count = sum(weight.numel() for weight in model.parameters())
        networks = [part for part in model.modules() if isinstance(part, Backbone)]
        return cls(
            type(model).__name__,
            (model.size[0], model.size[1]),
            model.codec.image_channels,
            count,
            model.conditioner,
            task,
            tuple(describe(network, exclude=CONTEXT) for network in networks),
            _about_codec(model.codec) if model.codec.costly and len(networks) == 1 else "",
        )


def _about_codec(codec: Codec) -> str:
    height, width = pixels_per_position(codec)
    return f"`{name_of(type(codec))}`, of latents of {codec.x_channels} channels for {height}x{width} pixels"


@dataclass(frozen=True)
class RunSummary:
    """A run, or a model without one: what its folder says.

    Attributes:
        name: Its name, different from those of the others.
        folder: Its folder.
        settings: Settings of `run.yaml`, as they stand there; empty without one.
        data: Content of `dataset.json`; empty without one.
        lines: Lines of `metrics.jsonl`.
        evaluation: Content of `evaluation.json`; empty without one.
        model: The model; None if there is none yet, or it cannot be loaded.
        trains: Whether a process trains it at this moment.
        noisy_images: Noisy images in each evaluation of held-out losses; 0 without any.
        verdict: Trend of its held-out losses, or "".
        made_from: Models that it started from or learned from.
        notes: What cannot be read, one line each.
    """

    name: str
    folder: Path
    settings: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    lines: list[dict[str, Any]] = field(default_factory=list, repr=False)
    evaluation: Mapping[str, Any] = field(default_factory=dict)
    model: ModelFacts | None = None
    trains: bool = False
    noisy_images: int = 0
    verdict: str = ""
    made_from: tuple[MadeFrom, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def images_seen(self) -> int | None:
        """Images seen by training, by its log."""
        seen = [line["images_seen"] for line in self.lines if is_number(line.get("images_seen"))]
        return int(max(seen)) if seen else None

    @property
    def seconds(self) -> float | None:
        """Seconds of training, by its log."""
        return _largest_value(curve_of(self.lines, "seconds"))

    @property
    def share(self) -> float | None:
        """Share of the budget that is used, by its log."""
        return _largest_value(curve_of(self.lines, "share"))

    @property
    def images_per_second(self) -> float | None:
        """Mean speed of the whole run, with grids, evaluations and saves."""
        seen, seconds = self.images_seen, self.seconds
        return seen / seconds if seen and seconds else None

    @property
    def loss(self) -> float | None:
        """The running mean of the training loss at its end."""
        values = smoothed(curve_of(self.lines, "loss").values)
        return float(values[-1]) if len(values) else None

    @property
    def held_out(self) -> tuple[float, int] | None:
        """The lowest held-out loss, and the images seen by then."""
        curve = curve_of(self.lines, "held_out")
        if not len(curve.x):
            return None
        best = int(np.argmin(curve.values))
        return float(curve.values[best]), int(curve.x[best])

    @property
    def scores(self) -> dict[str, dict[str, float]]:
        """Scores of `evaluation.json` by name, each with its value, and its spread and that of real images if known."""
        found = self.evaluation.get("scores")
        numbers = {
            str(name): {key: float(number) for key, number in score.items() if is_number(number)}
            for name, score in (found.items() if isinstance(found, dict) else ())
            if isinstance(score, dict)
        }
        return {name: score for name, score in numbers.items() if "value" in score}

    def setting(self, name: str) -> Any:
        """A setting of `run.yaml`; None if it is not there."""
        return self.settings.get(name)


def read_summary(folder: Path, name: str, *, allow_code: bool = False, model: ModelFacts | None = None) -> RunSummary:
    """The summary of a folder; whatever cannot be read is left out, with a note.

    Args:
        folder: Folder of a run, a model or a cascade.
        name: Its name.
        allow_code: Whether Python files that the model names may be run.
        model: What is known of its model already; it is loaded if None.

    Raises:
        ValueError: If there is neither a run nor a model.
    """
    is_run = (folder / "run.yaml").is_file() or (folder / LOG).is_file()
    place = folder if is_run else model_folder(folder)
    notes: list[str] = []
    settings = _read_entries_of(folder / "run.yaml", read_yaml, notes)
    data, evaluation = (_read_entries_of(folder / file, read_json, notes) for file in ("dataset.json", EVALUATION))
    summary = RunSummary(name, folder, settings, data, _lines_of(folder), evaluation, trains=_is_locked(folder))
    notes += [line for line in [damage_of_log(folder)] if line]
    noisy_images, trend = _read_held_out(folder / HELD_OUT, notes)
    try:
        facts = model or ModelFacts.of(load(place, allow_code=allow_code))
        summary = replace(summary, model=facts)
    except (ValueError, OSError) as error:
        has_model = any((at / "model.json").exists() for at in (place, place / "model"))
        notes.append(reason_of(error, 600) if has_model else "it has no model yet, so there are no samples of it")
    made_from = read_made_from(settings, folder)
    return replace(summary, noisy_images=noisy_images, verdict=trend, made_from=made_from, notes=tuple(notes))


def _lines_of(folder: Path) -> list[dict[str, Any]]:
    """Lines of the log; of a cascade, which has none of its own, one line with the sums of its stages."""
    stages = [read_metrics(stage) for stage in sorted(folder.glob("stage*")) if (stage / LOG).is_file()]
    if (folder / LOG).exists() or not stages:
        return read_metrics(folder)
    names = ("images_seen", "seconds")
    return [{name: sum(float(max(curve_of(lines, name).values, default=0)) for lines in stages) for name in names}]


def unique_names(folders: list[Path]) -> list[str]:
    """The name of each folder, with as many of those above it as it takes to tell them apart.

    Args:
        folders: Resolved paths, all different. Of the model in a run, the run is always named, too.
    """
    parts = [folder.parts for folder in folders]
    names = []
    for own in parts:
        others = [other for other in parts if other != own]
        least = 2 if own[-1].startswith("model") else 1
        longer = range(least, len(own))
        count = next((each for each in longer if all(own[-each:] != other[-each:] for other in others)), len(own))
        names.append("/".join(own[-count:]))
    return names


def _read_entries_of(file: Path, read: Callable[[Path], Any], notes: list[str]) -> dict[str, Any]:
    """The entries of a file; none if there is no such file, or, with a note, if it is damaged."""
    if not file.exists():
        return {}
    try:
        found = read(file)
        if isinstance(found, dict):
            return {str(name): value for name, value in found.items()}
        raise ValueError("it holds no entries with names")
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} cannot be read ({reason_of(error)}), and is left out")
        return {}


def _read_held_out(file: Path, notes: list[str]) -> tuple[int, str]:
    """The number of noisy images of each evaluation, and the trend of the run."""
    if not file.exists():
        return 0, ""
    try:
        noisy_images, history = read_evaluations(file)
    except (OSError, ValueError) as error:
        notes.append(f"{file.name} cannot be read ({reason_of(error)}), and is left out")
        return 0, ""
    found = verdict(history)
    return noisy_images, "" if found is None else found.trend


def _is_locked(folder: Path) -> bool:
    try:
        Lock(folder).check()
    except (ValueError, OSError) as error:  # a folder that cannot be written cannot be locked either
        return isinstance(error, ValueError)
    return False


def _largest_value(curve: Curve) -> float | None:
    return float(curve.values.max()) if len(curve.values) else None
