"""The Python API: each command of the command line is one function here."""

import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import DataSet
from noisekiln.files.pictures import ImageArray
from noisekiln.machine.interrupt import Interrupt, exit_code
from noisekiln.model.adapter import merge, unmerge
from noisekiln.model.cascade import Model
from noisekiln.model.cascade import load as load_model
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import Conditions, finished_images
from noisekiln.model.join import cascade
from noisekiln.model.sampling import BATCH_SIZE, Progress
from noisekiln.monitor.intervals import Intervals
from noisekiln.monitor.measure import Measurement
from noisekiln.monitor.measure import measure as measure_run
from noisekiln.operators.base import Operator
from noisekiln.plan.chosen_components import check_components
from noisekiln.plan.fine_tune import default_folder, load_with_consent, size_to_load
from noisekiln.plan.images import GENERATE, read_images
from noisekiln.plan.lookalike import lookalike_run
from noisekiln.plan.settings import Settings
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.events import DataRead, End, Event, Note, Reading, check_watch
from noisekiln.runs.run import Run
from noisekiln.runs.run_folder import RunFolder
from noisekiln.uses import editing, inpainting, interpolation, outpainting, restoration, style_transfer, upscaling
from noisekiln.uses import variation as variation_use

__all__ = [
    "Diffusion", "cascade", "edit", "fine_tune_on", "generate", "inpaint", "interpolate", "load", "measure", "merge",
    "outpaint", "post_hoc_ema", "restore", "style", "train", "unmerge", "upscale", "variations",
]  # fmt: skip

Watch = Callable[[Event], None]
"""Callback of training: called with every event, in the main thread, between two steps."""


def load(folder: str | Path, *, device: str = "cpu", allow_code: bool = False) -> Model:
    """A model or a cascade, ready to sample: ``load("runs/demo").sample(16, seed=0)`` is (16, H, W, C) uint8.

    Args:
        folder: Folder of a run or of a model.
        device: Device of the model.
        allow_code: Whether the model may run components from Python files of its author.
    """
    return load_model(folder, device=device, allow_code=allow_code)


def train(
    data: Any,
    *,
    out: str | Path | None = None,
    watch: Watch | None = None,
    intervals: Intervals = Intervals(),
    allow_code: bool = False,
    **settings: Any,
) -> Diffusion:
    """Train on images, or resume an interrupted call; returns the model, which is also saved in `out`.

    Args:
        data: A folder, a file, a bundled name, or images in memory ((N, H, W, C) uint8, or a list of images).
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
    watch = _watch(watch)
    chosen, images, folder = _prepare(data, out, settings, watch)
    return _train(chosen, folder, images, watch, intervals, allow_code=allow_code)


def measure(
    data: Any,
    *,
    out: str | Path | None = None,
    watch: Watch | None = None,
    allow_code: bool = False,
    **settings: Any,
) -> Measurement:
    """Measure the time and memory that training would need, by a few real steps; nothing is written.

    Args:
        data: Images, as in `train`.
        out: Folder of the run, new or existing.
        watch: Callback for `Reading`, `DataRead` and `Plan`.
        allow_code: Whether all Python files may be run, as in `train`.
        settings: Settings, as in `train`.

    Raises:
        ValueError: If the data or a setting is invalid; the message lists the valid values.
    """
    watch = _watch(watch)
    chosen, images, folder = _prepare(data, out, settings, watch)
    run = Run(chosen, images, folder, allow_code=allow_code)
    watch(run.plan)
    opened = run.opened
    return measure_run(
        opened.settings, images, opened.base, teacher=opened.teacher, codec=opened.codec, ranks=run.ranks
    )


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
    watch = _watch(watch)
    model = Diffusion.load(run, allow_code=allow_code)
    data = _read(images, GENERATE, model.size, watch)
    source = str(images) if isinstance(images, str | Path) else None
    settings, folder = lookalike_run(Path(run), model, data, source=source, minutes=minutes, device=device)
    return _train(settings, folder, data, watch, allow_code=allow_code)


def post_hoc_ema(run: str | Path, length: float, *, device: str = "cpu", allow_code: bool = False) -> Diffusion:
    """A trained run's model with another average of its weights, combined from the snapshots of the run.

    Args:
        run: Folder of the run, which is not changed.
        length: Width of the average, as a share of training: 0.01 to 0.25; the run's model has that of the setting
            `ema_length`.
        device: Device of the model.
        allow_code: Whether the model may run components from Python files of its author.

    Raises:
        ValueError: If the run has no snapshots, or this length cannot be combined from them.
    """
    return PostHocEma(Path(run), device=device, allow_code=allow_code).model(length)


def warn(event: Event) -> None:
    """The default `watch`: notes and an early stop become Python warnings."""
    if isinstance(event, Note):
        warnings.warn(event.text, stacklevel=4)  # the line of the caller of `train`
    if isinstance(event, End) and event.why == "stopped":
        warnings.warn(f"Stopped and saved after {event.images_seen:,} images; the same call resumes.", stacklevel=4)


def _is_main() -> bool:
    """Whether this is the process that prints and writes, before it has joined the others."""
    return os.environ.get("RANK", "0") == "0"


def _watch(watch: Watch | None) -> Watch:
    """The callback of this process: only the first one shows events."""
    check_watch(watch)
    return (watch or warn) if _is_main() else lambda event: None


def _prepare(
    data: Any, out: str | Path | None, settings: dict[str, Any], watch: Watch
) -> tuple[Settings, DataSet, Path]:
    """The settings, the images and the folder of a run."""
    size = settings.pop("size", None)
    chosen = Settings.of(**settings)
    check_components(chosen)  # before images are read
    images = _read(data, chosen.task, size_to_load(size, chosen.start, out), watch)
    chosen = chosen.replace(data=str(data) if isinstance(data, str | Path) else images.name)
    return chosen, images, Path(out) if out else default_folder(images, chosen.start)


def _read(source: Any, task: str, size: int | tuple[int, int] | None, watch: Watch) -> DataSet:
    data = read_images(source, task, size=size, progress=lambda done, total: watch(Reading(done, total)))
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
) -> Diffusion:
    if _is_main():
        RunFolder(folder).check_free()
    run = Run(settings, data, folder, intervals=intervals, allow_code=allow_code)
    with Interrupt() as interrupt:
        for event in run.events(interrupt):
            watch(event)
    assert isinstance(event, End)
    if event.signal == signal.SIGINT:
        raise KeyboardInterrupt
    if event.signal:
        sys.exit(exit_code(event.signal))
    return load_with_consent(folder, settings, device=run.settings.device, allow_code=allow_code)


# --- Use of trained models


def generate(
    model: Model | str | Path,
    conditions: Conditions = 16,
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    device: str = "cpu",
    allow_code: bool = False,
    **options: Any,
) -> Iterator[Progress]:
    """Sample step by step: a `Progress` after every step, whose ``images()`` are those of the current batch.

    Args:
        model: Model or cascade, or its folder.
        conditions: Classes or prompts, one per image, None for an unconditional image; text is one of them; or a number
            of unconditional images.
        seed: Seed of the first image; image i uses seed + i.
        batch_size: Images sampled at once; changes only speed and memory.
        device: Device of a model that is loaded from a folder.
        allow_code: Whether a model that is loaded may run components from Python files of its author.
        options: Other arguments of `Diffusion.generate`, such as ``steps=50, guidance=2.0``.
    """
    opened = load(model, device=device, allow_code=allow_code) if isinstance(model, str | Path) else model
    return opened.generate(conditions, seed=seed, batch_size=batch_size, **options)


def edit(model: Diffusion, image: ImageArray, *, strength: float = 0.7, **options: Any) -> Tensor:
    """An image changed towards a condition (image-to-image): (N, H, W, C) uint8; see `noisekiln.uses.editing.edit`."""
    return finished_images(editing.edit(model, image, strength=strength, **options)).cpu()


def inpaint(model: Diffusion, image: ImageArray, missing: Tensor | NDArray[Any], **options: Any) -> Tensor:
    """An image with its missing pixels generated: (N, H, W, C) uint8; see `noisekiln.uses.inpainting.inpaint`."""
    return finished_images(inpainting.inpaint(model, image, missing, **options)).cpu()


def interpolate(model: Diffusion, keys: Sequence[int | ImageArray], *, frames: int = 8, **options: Any) -> Tensor:
    """Images between key frames: (frames * (keys - 1) + 1, H, W, C) uint8; see `noisekiln.uses.interpolation`."""
    return finished_images(interpolation.interpolate(model, keys, frames=frames, **options)).cpu()


def outpaint(model: Diffusion, image: ImageArray, **options: Any) -> Tensor:
    """An image extended beyond its edges: (N, H', W', C) uint8; see `noisekiln.uses.outpainting.outpaint`."""
    return finished_images(outpainting.outpaint(model, image, **options)).cpu()


def restore(
    model: Diffusion, image: ImageArray, operator: str | Operator | Sequence[str | Operator], **options: Any
) -> Tensor:
    """An image without the damage of an operator: (N, H', W', C) uint8; see `noisekiln.uses.restoration`."""
    return finished_images(restoration.restore(model, image, operator, **options)).cpu()


def style(model: Diffusion, image: ImageArray, **options: Any) -> Tensor:
    """An image with another class, prompt or model: (1, H, W, C) uint8; see `noisekiln.uses.style_transfer.style`."""
    return finished_images(style_transfer.style(model, image, **options)).cpu()


def upscale(model: Diffusion, image: ImageArray, factor: int = 4, **options: Any) -> Tensor:
    """An image with more pixels: (N, factor H, factor W, C) uint8; see `noisekiln.uses.upscaling.upscale`."""
    return finished_images(upscaling.upscale(model, image, factor, **options)).cpu()


def variations(model: Diffusion, image: ImageArray, *, strength: float = 0.5, count: int = 8, **options: Any) -> Tensor:
    """Images similar to one: (N, H, W, C) uint8; see `noisekiln.uses.variation.variations`."""
    return finished_images(variation_use.variations(model, image, strength=strength, count=count, **options)).cpu()
