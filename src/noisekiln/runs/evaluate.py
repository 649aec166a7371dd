"""Evaluation as one call: the model and its data are opened, samples compared, the report returned and saved."""

import os
from collections.abc import Callable, Generator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, Unpack

import torch

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.data import DataSet, load, with_channels
from noisekiln.distributed.ranks import Ranks
from noisekiln.errors import listed, reason_of
from noisekiln.evaluation.choose_features import choose_features
from noisekiln.evaluation.compute import EvaluationProgress
from noisekiln.evaluation.evaluated_model import (
    EvaluatedModel,
    open_model,
    read_other_data,
    read_training_data,
)
from noisekiln.evaluation.evaluation_by_name import EvaluationByName
from noisekiln.evaluation.evaluation_cache import EvaluationCache
from noisekiln.evaluation.evaluation_options import EvaluationOptions
from noisekiln.evaluation.evaluation_report import EvaluationReport
from noisekiln.evaluation.evaluation_steps import Sampled, evaluate_samples, sample_model
from noisekiln.evaluation.real_images import RealImages, choose_real_images, draw_by_content, parts_of
from noisekiln.machine.devices import pick_device
from noisekiln.model.model import Model
from noisekiln.paths import expand_home
from noisekiln.runs.model_card import rewrite_card
from noisekiln.runs.run_summary import ModelFacts

CACHE = "evaluation"  # folder in a run for samples and features of earlier evaluations

Result = TypeVar("Result")
Watch = Callable[[EvaluationProgress], None]
"""Callback of an evaluation: called with its progress, in the first process."""


@answering_unknown_names("arguments of evaluate")
def evaluate(
    source: Model | str | Path | Any,
    *,
    against: Any = None,
    out: str | Path | None = None,
    device: str = "auto",
    allow_code: bool = False,
    watch: Watch | None = None,
    **options: Unpack[EvaluationByName],
) -> EvaluationReport:
    """How good a model is: its samples beside real images, in numbers, words and pictures.

    Scores compare n samples with n real images, and n other real images with the same ones: the second number is what a
    perfect model would reach. The report is saved as `evaluation.json` and `evaluation.html` in the folder of a run;
    the model card there gets its scores.

    Args:
        source: Folder of a run, a model or a cascade; a model in memory; or samples: images in a folder or in memory.
        against: Real images, as in `train`; by default those that the run was trained on.
        out: Folder for the report; by default that of the run.
        device: Device: auto, cpu, cuda or mps.
        allow_code: Whether the model may run components from Python files of its author.
        watch: Callback for the progress.
        options: Fields of `EvaluationOptions`, such as ``count=500`` or ``fast=True``.

    Raises:
        ValueError: If there is no model, there are no real images or too few of them, or an option is invalid.
    """
    _check_callable(watch)
    chosen = EvaluationOptions.of(**options).resolved
    device = pick_device(device)
    ranks = Ranks.join(device)
    show = watch if watch is not None and ranks.is_main else _ignore
    place = _folder_of(source, out)
    if place is not None:
        check_place(place)
    cache = EvaluationCache(None if place is None else place / CACHE, ranks)
    if is_model(source):
        evaluated = open_model(source, chosen.model_weights, device=device, allow_code=allow_code)
        real, notes = _real_images(evaluated, against, chosen, show)
    else:
        evaluated = None
        sampled, real, notes = _existing_samples(source, against, chosen, show)
    extractor = choose_features(chosen.features, chosen.weights, real, cache, device=device, allow_code=allow_code)
    if evaluated is not None:
        sampled = _run(sample_model(evaluated, real, chosen, cache), show)
    sampled = replace(sampled, notes=(*notes, *sampled.notes))
    report = _run(evaluate_samples(sampled, real, extractor, chosen, cache=cache, device=device), show)
    return _saved(report, place, evaluated) if place is not None and ranks.is_main else report


def _saved(report: EvaluationReport, place: Path, evaluated: EvaluatedModel | None) -> EvaluationReport:
    """The report, once it is saved; in a run the model card gets its scores, or a note says why not."""
    report.save(place)
    if evaluated is None or evaluated.settings is None or evaluated.folder != place:
        return report
    note = rewrite_card(place, ModelFacts.of(evaluated.model))
    return replace(report, notes=(*report.notes, note)) if note else report


def _check_callable(watch: object) -> None:
    if watch is not None and not callable(watch):
        raise ValueError(
            f"`watch`: a value of the type {type(watch).__name__} was given, which cannot be called with the progress. "
            "Give a function of one argument, or omit it."
        )


def is_model(source: Any) -> bool:
    """Whether this is a model, or names a folder or file that is meant to be one, and no folder of images."""
    if isinstance(source, Model):
        return True
    if not isinstance(source, str | Path):
        return False
    place = expand_home(source)
    holds_model = any((place / name).exists() for name in ("model.json", "model/model.json", "run.yaml"))
    return holds_model or not place.exists()


def _real_images(
    evaluated: EvaluatedModel, against: Any, options: EvaluationOptions, show: Watch
) -> tuple[RealImages, list[str]]:
    """The real images of a model's evaluation, and notes on them."""

    def reading(done: int, total: int) -> None:
        show(EvaluationProgress("reading images", done, total))

    other = None if against is None else read_other_data(against, evaluated, reading)
    trained: DataSet | None = None
    notes: list[str] = []
    if other is not None and evaluated.settings is None:
        notes.append(f"copies are not looked for: {evaluated.name} is no run, so it is unknown which images it learned")
    else:
        try:
            trained, notes = read_training_data(evaluated, reading)
        except ValueError as error:
            if other is None:
                raise
            notes.append(f"copies are not looked for: {reason_of(error)}")
    if evaluated.folder is not None and expand_home(options.features).resolve() == evaluated.folder.resolve():
        notes = [*notes, "the network judges itself: give the folder of another run as `features`"]
    if other is not None and trained is not None and other.fingerprint == trained.fingerprint:
        other = None
    return choose_real_images(options.count, options.seed, trained, other), notes


def _existing_samples(
    source: Any, against: Any, options: EvaluationOptions, show: Watch
) -> tuple[Sampled, RealImages, list[str]]:
    """Samples that exist as images, with the real images that they are compared with."""
    if against is None:
        raise ValueError(
            f"{_source_in_words(source)} is no model, so it was taken for samples; they need real images to be "
            "compared with. Give them as `against`, or the folder of a run."
        )
    data = against if isinstance(against, DataSet) else load(against)
    made = source if isinstance(source, DataSet) else load(source, size=data.size)
    notes = [f"samples: {note.rstrip('.')}" for note in made.altered]
    ignored = [name for name, value in options.sampling.items() if value not in (None, "auto")]
    if ignored:
        notes.append(f"samples exist already, so {listed([f'`{name}`' for name in ignored])} changes nothing")
    if {made.channels, data.channels} == {1, 3}:
        shades = {1: "grey", 3: "in colour"}
        notes.append(f"samples are {shades[made.channels]}: compared {shades[data.channels]}, as the real images are")
    made = with_channels(made, data.channels)
    parts = parts_of(made)
    count = min(options.count, sum(map(len, parts)))
    real = choose_real_images(count, options.seed, data, None)
    samples = draw_by_content(parts, count, options.seed)
    same_classes = samples.labels is not None and made.class_names == data.class_names
    if samples.labels is not None and data.class_names and not same_classes:
        notes.append("class accuracy is left out: samples and real images have other classes")
    name = str(source) if isinstance(source, str | Path) else made.name
    images, labels = torch.from_numpy(samples.pixels), torch.from_numpy(samples.labels) if same_classes else None
    return Sampled(name, {"samples": images}, labels), real, notes


def _folder_of(source: Any, out: str | Path | None) -> Path | None:
    if out is not None:
        check_argument("out", out, Path)
        return expand_home(out)
    if isinstance(source, str | Path) and is_model(source):
        return expand_home(source)
    return None


def check_place(folder: Path) -> None:
    """Check, before anything is computed, that a report can be written into a folder, which may not exist yet.

    Raises:
        ValueError: If it cannot.
    """
    existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        why = "cannot be written" if existing.is_dir() else "is no folder"
        raise ValueError(f"The report was to be written into {folder}, and {existing} {why}. Give another `out`.")


def _run(steps: Generator[EvaluationProgress, None, Result], show: Watch) -> Result:
    """The result of a generator, whose progress is shown."""
    while True:
        try:
            show(next(steps))
        except StopIteration as end:
            result: Result = end.value
            return result


def _ignore(progress: EvaluationProgress) -> None:
    """The default callback: progress is not shown."""


def _source_in_words(source: Any) -> str:
    return repr(str(source)) if isinstance(source, str | Path) else f"A {type(source).__name__}"
