"""The Python API: each command of the command line is one function here."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.images import ImageLike, Images
from noisekiln.interop.exporting import export
from noisekiln.interop.importing import import_model
from noisekiln.interop.own_denoiser import denoiser
from noisekiln.interop.pushing import push
from noisekiln.inverse.base import Inverse
from noisekiln.model.adapter import merge, unmerge
from noisekiln.model.arguments_by_name import ArgumentsByName
from noisekiln.model.cascade import load as load_model
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.generate import Conditions, finished_images
from noisekiln.model.join import cascade
from noisekiln.model.model import Model
from noisekiln.model.sampling import Progress
from noisekiln.operators.base import Operator
from noisekiln.pretrained.load_pretrained import load_pretrained
from noisekiln.runs.compare_runs import compare
from noisekiln.runs.ema_length import PostHocEma
from noisekiln.runs.evaluate import evaluate
from noisekiln.runs.train import fine_tune_on, measure, train
from noisekiln.runs.train_codec import train_codec
from noisekiln.uses import editing, inpainting, interpolation, outpainting, restoration, style_transfer, upscaling
from noisekiln.uses import variation as variation_use
from noisekiln.uses.fit_image import single_model
from noisekiln.uses.image_mask import MaskLike
from noisekiln.uses.options_by_name import OptionsByName, SamplingByName, SeedByName

__all__ = [
    "Diffusion", "cascade", "compare", "denoiser", "edit", "evaluate", "export", "fine_tune_on", "generate",
    "import_model", "inpaint", "interpolate", "load", "load_pretrained", "measure", "merge", "outpaint",
    "post_hoc_ema", "push", "restore", "style", "train", "train_codec", "unmerge", "upscale", "variations",
]  # fmt: skip


@answering_unknown_names("settings")
def load(folder: str | Path, *, device: str = "cpu", allow_code: bool = False) -> Model:
    """A model or a cascade, ready to sample: ``load("runs/demo").sample(16, seed=0)`` is (16, H, W, C) uint8.

    Args:
        folder: Folder of a run or of a model; or "hf:user/name", a model of the Hugging Face Hub.
        device: Device of the model.
        allow_code: Whether the model may run components from Python files of its author.
    """
    check_argument("folder", folder, Path)
    return load_model(folder, device=device, allow_code=allow_code)


@answering_unknown_names("settings")
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
    check_argument("run", run, Path)
    check_argument("length", length, float)
    return PostHocEma(Path(run), device=device, allow_code=allow_code).model(length)


def generate(
    model: Model | str | Path,
    conditions: Conditions = 16,
    *,
    seed: int = 0,
    batch_size: int | None = None,
    device: str = "cpu",
    allow_code: bool = False,
    **options: Unpack[ArgumentsByName],
) -> Iterator[Progress]:
    """Sample step by step: a `Progress` after every step, whose ``images()`` are those of the current batch.

    Args:
        model: Model or cascade, or its folder.
        conditions: Classes or prompts, one per image, None for an unconditional image; text is one of them; or a number
            of unconditional images.
        seed: Seed of the first image; image i uses seed + i.
        batch_size: Images sampled at once; as many as memory holds, up to 64, by default. It changes only speed and
            memory.
        device: Device of a model that is loaded from a folder.
        allow_code: Whether a model that is loaded may run components from Python files of its author.
        options: Other arguments of `Diffusion.generate`, such as ``steps=50, guidance=2.0``.
    """
    opened = load(model, device=device, allow_code=allow_code) if isinstance(model, str | Path) else model
    if not isinstance(opened, Model):
        raise ValueError(
            f"A {type(opened).__name__} was given as `model`, and only a model generates images. "
            "Give one that noisekiln.load returns, or its folder."
        )
    generate: Callable[..., Iterator[Progress]] = opened.generate  # of a cascade, it refuses some of the options
    progress = generate(conditions, seed=seed, batch_size=batch_size, **options)
    opened.warn_of_ignored(conditions, stacklevel=3)
    return progress


def _on_cpu(model: Model, progress: Iterator[Progress], options: SamplingByName) -> Images:
    """The finished images; a warning says what of the condition is ignored."""
    model.warn_of_ignored([options.get("condition")], stacklevel=4)
    return Images.of(finished_images(progress).cpu())


def edit(model: Model, image: ImageLike, *, strength: float = 0.7, **options: Unpack[OptionsByName]) -> Images:
    """An image changed towards a condition (image-to-image): (N, H, W, C) uint8; see `noisekiln.uses.editing.edit`."""
    return _on_cpu(model, editing.edit(single_model(model), image, strength=strength, **options), options)


def inpaint(
    model: Model,
    image: ImageLike,
    missing: MaskLike,
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Images:
    """An image with its missing pixels generated: (N, H, W, C) uint8; see `noisekiln.uses.inpainting.inpaint`."""
    return _on_cpu(model, inpainting.inpaint(single_model(model), image, missing, method=method, **options), options)


def interpolate(
    model: Model, keys: Sequence[int | ImageLike], *, frames: int = 8, **options: Unpack[SamplingByName]
) -> Images:
    """Images between key frames: (frames * (keys - 1) + 1, H, W, C) uint8; see `noisekiln.uses.interpolation`."""
    return _on_cpu(model, interpolation.interpolate(single_model(model), keys, frames=frames, **options), options)


def outpaint(
    model: Model,
    image: ImageLike,
    *,
    left: int = 0,
    top: int = 0,
    right: int = 0,
    bottom: int = 0,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Images:
    """An image extended beyond its edges: (N, H', W', C) uint8; see `noisekiln.uses.outpainting.outpaint`."""
    sides = {"left": left, "top": top, "right": right, "bottom": bottom}
    return _on_cpu(model, outpainting.outpaint(single_model(model), image, **sides, method=method, **options), options)


def restore(
    model: Model,
    image: ImageLike,
    operator: str | Operator | Sequence[str | Operator],
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Images:
    """An image without the damage of an operator: (N, H', W', C) uint8; see `noisekiln.uses.restoration`."""
    return _on_cpu(model, restoration.restore(single_model(model), image, operator, method=method, **options), options)


def style(
    model: Model,
    image: ImageLike,
    *,
    source_condition: Any = None,
    strength: float = 0.95,
    target_model: Model | None = None,
    **options: Unpack[SeedByName],
) -> Images:
    """An image with another class, prompt or model: (1, H, W, C) uint8; see `noisekiln.uses.style_transfer.style`."""
    target = None if target_model is None else single_model(target_model)
    progress = style_transfer.style(
        single_model(model),
        image,
        source_condition=source_condition,
        strength=strength,
        target_model=target,
        **options,
    )
    return _on_cpu(model, progress, options)


def upscale(
    model: Model,
    image: ImageLike,
    factor: int = 4,
    *,
    method: str | Inverse | None = None,
    **options: Unpack[OptionsByName],
) -> Images:
    """An image with more pixels: (N, factor H, factor W, C) uint8; see `noisekiln.uses.upscaling.upscale`."""
    return _on_cpu(model, upscaling.upscale(single_model(model), image, factor, method=method, **options), options)


def variations(
    model: Model, image: ImageLike, *, strength: float = 0.5, count: int = 8, **options: Unpack[SeedByName]
) -> Images:
    """Images similar to one: (N, H, W, C) uint8; see `noisekiln.uses.variation.variations`."""
    return _on_cpu(
        model, variation_use.variations(single_model(model), image, strength=strength, count=count, **options), options
    )
