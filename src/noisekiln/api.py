"""Training and loading, as calls; every command is a thin file over such a call."""

import signal
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from noisekiln.data import DataSet
from noisekiln.files.pictures import ImageArray
from noisekiln.machine.interrupt import Interrupt
from noisekiln.model.cascade import Model
from noisekiln.model.cascade import load as load_model
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import Conditions, finished_images
from noisekiln.model.sampling import Progress
from noisekiln.operators.base import Operator
from noisekiln.plan.fine_tune import default_folder, size_to_load
from noisekiln.plan.images import GENERATE, read_images
from noisekiln.plan.lookalike import fine_tuning
from noisekiln.plan.settings import Settings
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.run import Run
from noisekiln.uses import editing, inpainting, interpolation, outpainting, restoration, style_transfer, upscaling
from noisekiln.uses import variation as variation_use


def load(folder: str | Path, *, device: str = "cpu", allow_code: bool = False) -> Model:
    """A model or a cascade, ready to sample: ``load("runs/demo").sample(16, seed=0)`` is (16, H, W, C) uint8.

    Args:
        folder: Of the run.
        device: Where to put it.
        allow_code: Whether the model may run components from Python files of its maker's.
    """
    return load_model(folder, device=device, allow_code=allow_code)


def train(data: Any, *, out: str | Path | None = None, **settings: Any) -> Diffusion:
    """Train on images, or go on where an interrupted call stopped; returns the model, which `out` holds too.

    Args:
        data: A folder, a file, a bundled name, or images in memory ((N, H, W, C) uint8, or a list of pictures).
        out: Run folder; ``runs/NAME`` unless given, or ``runs/NAME-from-START``.
        settings: Fields of `noisekiln.plan.settings.Settings`, such as ``minutes=10``; ``start="runs/demo"`` goes on
            from a trained model, and ``lora=8`` then trains an adapter for it.

    Raises:
        ValueError: For data or settings that cannot be, with what can.
        noisekiln.training.checkpoints.SaveFailed: If there is no room left; what was saved before is intact.
        noisekiln.training.trainer.Diverged: If the loss stops being a number; the last good checkpoint remains.
        KeyboardInterrupt: After Ctrl-C, once all is saved; the same call goes on. After SIGTERM it is SystemExit.
    """
    asked = settings.pop("size", None)
    chosen = Settings.of(**settings)  # what cannot be is said before images are read
    images = read_images(data, chosen.task, size=size_to_load(asked, chosen.start, out))
    chosen = chosen.but(data=data if isinstance(data, str) else images.name)
    return _trained(chosen, Path(out) if out else default_folder(images, chosen.start), images)


def alike(run: str | Path, images: Any, *, minutes: float = 1.0, device: str = "auto") -> Diffusion:
    """A run fine-tuned on a few images, to paint what looks like them: a `painter` for `style`.

    It is kept beside the run, and used again when it is asked for once more; with more minutes it goes on.

    Args:
        run: Folder of the run.
        images: As `train` takes them.
        minutes: Of fine-tuning.
        device: auto, cpu, cuda or mps.

    Raises:
        ValueError: If there is no single model, or the images are of another kind than its own.
    """
    model = Diffusion.load(run)
    data = read_images(images, GENERATE, size=model.size)
    source = images if isinstance(images, str) else None
    return _trained(*fine_tuning(Path(run), model, data, source=source, minutes=minutes, device=device), data)


def _trained(settings: Settings, folder: Path, data: DataSet) -> Diffusion:
    run = Run(settings, data, folder)
    for skipped in run.skipped:
        print(skipped, file=sys.stderr)
    with Interrupt() as interrupt:
        for _ in run.steps(interrupt):
            pass
    if run.trainer.stopped_by and run.trainer.share < 1:
        print(f"Stopped and saved after {run.trainer.images_seen:,} images; the same call goes on.", file=sys.stderr)
        if run.trainer.stopped_by == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(143)
    return Diffusion.load(folder, device=run.settings.device, allow_code=True)  # what was just trained is trusted


def ema(run: str | Path, length: float, *, device: str = "cpu", allow_code: bool = False) -> Diffusion:
    """A trained run's model with another average of its weights, made from the snapshots that the run kept.

    Args:
        run: Its folder, which is left as it is.
        length: Width of the average, as a share of training: 0.01 to 0.25; `settings.ema_length` is what the run's model has.
        device: Where to put it.
        allow_code: Whether the model may run components from Python files of its maker's.

    Raises:
        ValueError: If the run keeps no snapshots, or they cannot make this length.
    """
    return PostHocEma(Path(run), device=device, allow_code=allow_code).model(length)


# --- use


def generate(
    model: Model | str | Path, conditions: Conditions = 16, *, seed: int = 0, batch_size: int = 64, **options: Any
) -> Iterator[Progress]:
    """Images while they form: a `Progress` after every step, whose ``images()`` are those of the current batch.

    Args:
        model: Model or cascade, or the folder of one.
        conditions: Classes or prompts, one for each image, None for none; or how many images without one.
        seed: Seed of the first image; the others count on.
        batch_size: Images sampled at once; changes only speed and memory.
        options: Other arguments of `Diffusion.generate`, such as ``steps=50, guidance=2.0``.
    """
    opened = load(model) if isinstance(model, str | Path) else model
    return opened.generate(conditions, seed=seed, batch_size=batch_size, **options)


def edit(model: Diffusion, image: ImageArray, *, strength: float = 0.7, **options: Any) -> Tensor:
    """An image changed towards a condition (image-to-image): (N, H, W, C) uint8; see `noisekiln.uses.editing.edit`."""
    return finished_images(editing.edit(model, image, strength=strength, **options)).cpu()


def inpaint(model: Diffusion, image: ImageArray, missing: Tensor | NDArray[Any], **options: Any) -> Tensor:
    """An image with its missing pixels generated: (N, H, W, C) uint8; see `noisekiln.uses.inpainting.inpaint`."""
    return finished_images(inpainting.inpaint(model, image, missing, **options)).cpu()


def interpolate(model: Diffusion, keys: Sequence[int | ImageArray], *, frames: int = 8, **options: Any) -> Tensor:
    """Images from key to key: (frames * (keys - 1) + 1, H, W, C) uint8; see `noisekiln.uses.interpolation`."""
    return finished_images(interpolation.interpolate(model, keys, frames=frames, **options)).cpu()


def outpaint(model: Diffusion, image: ImageArray, **options: Any) -> Tensor:
    """An image extended beyond its edges: (N, H', W', C) uint8; see `noisekiln.uses.outpainting.outpaint`."""
    return finished_images(outpainting.outpaint(model, image, **options)).cpu()


def restore(
    model: Diffusion, image: ImageArray, operator: str | Operator | Sequence[str | Operator], **options: Any
) -> Tensor:
    """An image without the damage that an operator did: (N, H', W', C) uint8; see `noisekiln.uses.restoration`."""
    return finished_images(restoration.restore(model, image, operator, **options)).cpu()


def style(model: Diffusion, image: ImageArray, **options: Any) -> Tensor:
    """The same image as something else: (1, H, W, C) uint8; see `noisekiln.uses.style_transfer.style`."""
    return finished_images(style_transfer.style(model, image, **options)).cpu()


def upscale(model: Diffusion, image: ImageArray, factor: int = 4, **options: Any) -> Tensor:
    """An image with more pixels: (N, factor H, factor W, C) uint8; see `noisekiln.uses.upscaling.upscale`."""
    return finished_images(upscaling.upscale(model, image, factor, **options)).cpu()


def variations(model: Diffusion, image: ImageArray, *, strength: float = 0.5, count: int = 8, **options: Any) -> Tensor:
    """Images similar to one: (N, H, W, C) uint8; see `noisekiln.uses.variation.variations`."""
    return finished_images(variation_use.variations(model, image, strength=strength, count=count, **options)).cpu()
