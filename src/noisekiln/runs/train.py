"""Training as one call: the data are read, the run is opened and its events are passed on, the model is returned."""

import signal
import sys
from collections.abc import Callable
from dataclasses import asdict, fields
from difflib import get_close_matches
from itertools import count
from pathlib import Path
from typing import Any, TypeVar, Unpack

import torch

from noisekiln.components.own_code import noting_own_code
from noisekiln.components.plain_values import all_plain
from noisekiln.components.setting import check_argument
from noisekiln.components.spec import consent_to
from noisekiln.data import DataSet
from noisekiln.distributed import torchrun
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.model import Model
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.measure import Measurement, measure_codec
from noisekiln.monitor.measure import measure as measure_run
from noisekiln.paths import expand_home
from noisekiln.plan.chosen_components import check_components
from noisekiln.plan.lookalike import lookalike_run
from noisekiln.plan.road import PIXELS
from noisekiln.plan.settings import Settings
from noisekiln.plan.settings_by_name import SettingsByName
from noisekiln.plan.source_models import check_models_exist, default_folder, size_to_load
from noisekiln.plan.task_data import GENERATE, read_images
from noisekiln.runs.codec_run import CodecRun
from noisekiln.runs.events import DataRead, End, Measured, Note, Reading
from noisekiln.runs.open_run import open_run
from noisekiln.runs.refusals import OtherRun
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.runs.watch import Watch, watch_of_this_process

Called = TypeVar("Called", bound=Callable[..., Any])


def learning(function: Called) -> Called:
    """The function with gradients, also where its caller has switched them off by `no_grad` or `inference_mode`."""
    return torch.inference_mode(False)(torch.enable_grad()(function))


@learning
def train(
    data: Any,
    *,
    labels: Any = None,
    captions: Any = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    intervals: Intervals = Intervals(),
    allow_code: bool = False,
    **settings: Unpack[SettingsByName],
) -> Model:
    """Train on images, or resume an interrupted call; returns the model, which is also saved in `out`.

    The model is a `Diffusion`, or on the road of a cascade a `Cascade`.

    Args:
        data: A folder, a file, a bundled name; or images in memory: an array or a tensor (N, H, W, C) or (N, C, H, W)
            of bytes or of floats in [0, 1] or [-1, 1], a list of PIL images or paths, pairs of an image and its class
            or caption, (images, labels), columns by name, a data set or a loader of torch.
        labels: The class of each image in memory.
        captions: The caption of each image in memory.
        out: Folder of the run; by default ``runs/NAME``, or ``runs/NAME-from-START``.
        watch: Callback for every event (see `noisekiln.runs.events`); by default, notes become Python warnings.
        intervals: Intervals of logs, evaluations, grids and checkpoints.
        allow_code: Whether Python files may be run that an existing run, the model to start from or the teacher names;
            files that the settings name are run anyway.
        settings: Fields of `noisekiln.plan.settings.Settings`, such as ``minutes=10``; ``start="runs/demo"`` fine-tunes
            a trained model, and ``lora=8`` then trains an adapter for it.

    Raises:
        ValueError: If the data or a setting is invalid; the message lists the valid values.
        noisekiln.errors.SaveFailed: If a file cannot be written; what was saved before is intact.
        noisekiln.errors.Diverged: If the loss is not finite; the last saved checkpoint is still good.
        KeyboardInterrupt: After Ctrl-C, once everything is saved; the same call resumes. After SIGTERM it is
            SystemExit.
    """
    watch = watch_of_this_process(watch)
    with noting_own_code():
        words = {"labels": labels, "captions": captions}
        chosen, images, folder = _prepare(data, words, out, dict(settings), watch)
        return _train(chosen, folder, images, watch, intervals, allow_code=allow_code)


@learning
def measure(
    data: Any,
    *,
    labels: Any = None,
    captions: Any = None,
    out: str | Path | None = None,
    watch: Watch | None = None,
    allow_code: bool = False,
    **settings: Unpack[SettingsByName],
) -> list[Measurement]:
    """Measure the time and memory that training would need, by a few real steps; nothing is written.

    Returns one measurement for each network to train: that of the model, after that of its codec if it is trained too,
    or those of a cascade's stages.

    Args:
        data: Images, as in `train`.
        labels: The class of each image in memory.
        captions: The caption of each image in memory.
        out: Folder of the run, new or existing. Default: as in `train`, or a new one if that has another run.
        watch: Callback for `Reading`, `DataRead`, `Stage`, `CodecPlan`, `Plan`, `Note` and `Measured`.
        allow_code: Whether all Python files may be run, as in `train`.
        settings: Settings, as in `train`.

    Raises:
        ValueError: If the data or a setting is invalid; the message lists the valid values.
    """
    watch = watch_of_this_process(watch)
    with noting_own_code():
        words = {"labels": labels, "captions": captions}
        chosen, images, folder = _prepare(data, words, out, dict(settings), watch)
        try:
            return _measure_in(folder, chosen, images, watch, allow_code)
        except OtherRun as error:
            if out is not None:
                raise
            watch(Note(f"{error} What follows is measured of a new one"))
            new = next(place for number in count(2) if not (place := Path(f"{folder}-{number}")).exists())
            return _measure_in(new, chosen, images, watch, allow_code)


def _measure_in(folder: Path, settings: Settings, images: DataSet, watch: Watch, allow_code: bool) -> list[Measurement]:
    """What training in a folder would need, for each network to train."""
    run, found = open_run(settings, images, folder, allow_code=allow_code), []
    for stage, part in [(None, run)] if isinstance(run, Run) else run.parts():
        if stage is not None:
            watch(stage)
        found.append(_measured(part, watch))
    return found


@learning
def fine_tune_on(
    run: str | Path,
    images: Any,
    *,
    minutes: float = 1.0,
    device: str = "auto",
    allow_code: bool = False,
    watch: Watch | None = None,
) -> Diffusion:
    """A run's model fine-tuned on a few images, to generate similar ones: a `target_model` for `style`.

    It is saved next to the run: the same call finds it again, and a call with more minutes resumes it.

    Args:
        run: Folder of the run.
        images: Images, as in `train`.
        minutes: Training budget.
        device: Device: auto, cpu, cuda or mps.
        allow_code: Whether the model may run components from Python files of its author.
        watch: Callback, as in `train`.

    Raises:
        ValueError: If the folder has no single model, or the images are of another kind than its own.
    """
    check_argument("run", run, Path)
    watch = watch_of_this_process(watch)
    model = Diffusion.load(run, allow_code=allow_code)
    data = _read_data(images, GENERATE, model.size, watch)
    source = str(images) if isinstance(images, str | Path) else None
    settings, folder = lookalike_run(expand_home(run), model, data, source=source, minutes=minutes, device=device)
    tuned = _train(settings.replace(road=PIXELS), folder, data, watch, allow_code=allow_code)
    assert isinstance(tuned, Diffusion)
    return tuned


def _check_own_arguments(settings: dict[str, Any]) -> None:
    """Raise ValueError for a name that is like one of this call's arguments, and less like any setting."""
    own, known = (
        ("labels", "captions", "out", "watch", "intervals", "allow_code"),
        {each.name for each in fields(Settings)},
    )
    for name in set(settings) - known:
        near = get_close_matches(name, (*own, *known), n=1)
        if near and near[0] in own:
            raise ValueError(f"There is no argument called {name!r}. Did you mean {near[0]!r}?")


def _prepare(
    data: Any, words: dict[str, Any], out: str | Path | None, settings: dict[str, Any], watch: Watch
) -> tuple[Settings, DataSet, Path]:
    """The settings, the images and the folder of a run; whatever needs no images is checked before they are read."""
    _check_own_arguments(settings)
    size = settings.pop("size", None)
    chosen = Settings.of(**paths_as_text(all_plain(settings)))
    check_components(chosen)
    if out is not None:
        check_argument("out", out, Path)
    out = expand_home(out) if out else None
    if out:
        RunFolder(out).check_is_run_or_empty()
    check_models_exist(chosen, out)
    words = {name: values for name, values in words.items() if values is not None}
    images = _read_data(data, chosen.task, size_to_load(size, chosen.start, out), watch, **words)
    chosen = chosen.replace(data=str(data) if isinstance(data, str | Path) else images.name)
    folder = out or default_folder(images, chosen.start)
    before = RunFolder(folder).image_size()
    if size is None and before not in (None, images.size):  # the default of an earlier version
        images = _read_data(data, chosen.task, before, watch, **words)
    return chosen, images, folder


def _read_data(source: Any, task: str, size: int | tuple[int, int] | None, watch: Watch, **words: Any) -> DataSet:
    data = read_images(source, task, size=size, progress=lambda done, total: watch(Reading(done, total)), **words)
    watch(DataRead(data))
    return data


def _train(
    settings: Settings,
    folder: Path,
    data: DataSet,
    watch: Watch,
    intervals: Intervals = Intervals(),
    *,
    allow_code: bool = False,
) -> Model:
    if torchrun.rank() == 0:  # the others have not joined yet
        RunFolder(folder).check_free()
    run = open_run(settings, data, folder, intervals=intervals, allow_code=allow_code)
    with Interrupt() as interrupt:
        for event in run.events(interrupt):
            watch(event)
    assert isinstance(event, End)
    stop_if_interrupted(event.signal)
    return load(folder, device=run.settings.device, allow_code=consent_to(asdict(settings), allow_code))


def paths_as_text(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings, with paths of models and codecs as text."""
    return {name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}


def stop_if_interrupted(number: int) -> None:
    """Raise KeyboardInterrupt or SystemExit if a signal of this number, not 0, has stopped training."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if number:
        sys.exit(exit_code(number))


def _measured(run: Run | CodecRun, watch: Watch) -> Measurement:
    watch(run.plan)
    for text in run.warnings:
        watch(Note(text))
    if isinstance(run, CodecRun):
        found = measure_codec(run.settings, run.data, ranks=run.ranks)
    else:
        opened = run.opened
        found = measure_run(
            opened.settings, opened.data, opened.base, teacher=opened.teacher, codec=opened.codec, ranks=run.ranks
        )
    watch(Measured(run.plan, found))
    return found
