"""A trained model as ONNX files, with a sampler of a few lines that needs onnxruntime, numpy and Pillow alone.

`denoiser.onnx` is the network, `decoder.onnx` and `encoder.onnx` the codec, `conditioner.onnx` the embedding of classes
or prompts; batch, height and width are dynamic where the network allows it. Of a task, `source.onnx` makes the
condition image, and `known.onnx` sets what that fixes in an estimate. A multistep method of sampling is linear in x
and in the network's outputs, so `sampling.json` holds it as a few numbers for each step.
"""

import logging
import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noisekiln.backbones.base import Backbone
from noisekiln.codecs.base import Size, pixels_per_position
from noisekiln.components.spec import build
from noisekiln.conditioners.base import Conditioner
from noisekiln.errors import reason_of
from noisekiln.files.json_file import write_json
from noisekiln.files.packages import check_packages
from noisekiln.guidance.classifier_free import ClassifierFree, guidance_of
from noisekiln.interop.onnx_conditions import tokens_agree, tokens_of
from noisekiln.interop.onnx_modules import OnnxPart, conditioner_part, known_part, network_part, source_part
from noisekiln.interop.onnx_notes import MOST, Sizes, about_sampling, about_sizes
from noisekiln.levels import Level
from noisekiln.model.diffusion import Diffusion
from noisekiln.samplers.base import Sampler
from noisekiln.samplers.ddim import DDIM
from noisekiln.tasks.base import Task

SAMPLE = Path(__file__).with_name("onnx_sample.py")
NEEDED = ("onnx", "onnxscript", "onnxruntime")
MOST_OF_CODEC = 128  # positions of a side that a codec encodes at once: it may treat larger images in another way
MULTIPLES = (1, 2, 4, 8, 16)  # of which sides may have to be multiples


def write_onnx_folder(model: Diffusion, out: Path, *, steps: int | None = None) -> list[str]:
    """Write `*.onnx`, `sampling.json` and `sample.py` into an empty folder.

    Args:
        model: The model.
        out: The folder.
        steps: Steps of sampling; the model's own if None.

    Returns:
        Notes on what is fixed or left out, one line each.

    Raises:
        ValueError: If onnx is not installed, or a network cannot be exported.
    """
    check_packages("An export to ONNX", "onnx", *NEEDED)
    notes = about_sampling(model)
    backbone, codec, x = model.denoiser.backbone, model.codec, model.empty_x(2).zero_()
    slots = _slots_of(backbone, model.conditioner)
    inputs = {"x": x, "label": torch.full((2,), 0.5)}
    if model.conditioner is not None and slots:
        ids = model.conditioner.nothing(2).long()
        embed = conditioner_part(model.conditioner, tuple(slots))
        _export(embed, {"ids": ids}, tuple(slots), out / "conditioner.onnx", ((), [None]))
        inputs |= dict(zip(slots, embed(ids), strict=True))
    if model.task is not None:
        inputs["image"] = export_task(model.task, model, x, out)
        notes.append("source.onnx takes {}x{} alone, to which sample.py scales the image".format(*_source_size(model)))
    tried: list[Sizes] = [*((multiple, MOST // multiple) for multiple in MULTIPLES), None]
    found = _export(network_part(backbone, tuple(inputs)[2:]), inputs, ("y",), out / "denoiser.onnx", ((2, 3), tried))
    notes += about_sizes("denoiser.onnx", found, x.shape[2:])
    tried = [(1, MOST), (1, MOST_OF_CODEC), None]
    found = _export(OnnxPart(codec, codec.to_image), {"x": x}, ("image",), out / "decoder.onnx", ((2, 3), tried))
    notes += about_sizes("decoder.onnx", found, x.shape[2:])
    pixels, factor = torch.zeros(2, *model.size, codec.image_channels), max(pixels_per_position(codec))
    tried = [(factor, MOST), (factor, MOST_OF_CODEC), None]
    found = _export(OnnxPart(codec, codec.encode), {"pixels": pixels}, ("x",), out / "encoder.onnx", ((1, 2), tried))
    notes += about_sizes("encoder.onnx", found, pixels.shape[1:3])
    condition = None if model.conditioner is None else tokens_of(model.conditioner)
    if condition is not None and model.conditioner is not None and not tokens_agree(condition, model.conditioner):
        condition = None
    if model.conditioner is not None and condition is None:
        notes.append("sample.py samples without conditions: this model's are none that it can turn into numbers")
    write_json(out / "sampling.json", {**sampling_table(model, steps), "condition": condition}, indent=None)
    (out / "sample.py").write_text(SAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    return notes


@torch.no_grad()
def export_task(task: Task, model: Diffusion, x: Tensor, out: Path) -> Tensor:
    """Write how a task's source becomes the network's condition image, and what that fixes of x; returns such images.

    Args:
        task: The task.
        model: Its model.
        x: An example of a batch of x.
        out: The folder.
    """
    size, codec = _source_size(model), model.codec
    source = torch.zeros(len(x), *size, task.source_channels(codec.image_channels), dtype=torch.uint8)
    from_source = source_part(task, codec, model.size)
    fixed: tuple[tuple[int, ...], list[Sizes]] = ((), [None])
    _export(from_source, {"source": source, "noise": x}, ("image",), out / "source.onnx", fixed)
    image: Tensor = from_source(source, x)
    if type(task).clamp_known is not Task.clamp_known:
        _export(known_part(task), {"x": x, "image": image}, ("known",), out / "known.onnx", fixed)
    return image


def _source_size(model: Diffusion) -> Size:
    """Size of the sources of images of the model's size."""
    return model.size if model.task is None else model.task.source_size(model.size)


def sampling_table(model: Diffusion, steps: int | None = None) -> dict[str, Any]:
    """DPM-Solver++(2M), or DDIM where that is the model's sampler, as numbers for each step.

    With ``x^ = of_x x_t + of_y y`` and ``aim = x^ + ahead (x^ - x^ of the step before)``, a step is
    ``x_s = keep x_t + add aim``.
    """
    levels, sampler = model.levels(steps=steps), build(Sampler, model.sampling.sampler)
    first_order, table = sampler == DDIM(), []
    for number, (t, s) in enumerate(pairwise(levels)):
        _, of_eps = model.denoiser.prediction.coefficients(t)
        determinant = model.denoiser.prediction.determinant(t)
        ahead = 0.0 if first_order or number == 0 else _ahead(levels[number - 1], t, s)
        row: dict[str, Any] = {
            "scale": 1 / t.norm,
            "label": model.denoiser.noise_label(t),
            "of_x": of_eps / determinant,
            "of_y": -t.sigma / determinant,
            "ahead": ahead,
            "keep": s.sigma / t.sigma,
            "add": s.alpha - t.alpha * s.sigma / t.sigma,
        }
        table.append({name: float(value) for name, value in row.items()})
    guidance, conditioner, task = guidance_of(model.sampling.guidance), model.conditioner, model.task
    channels = 0 if task is None else task.source_channels(model.codec.image_channels)
    return {
        "x": list(model.empty_x(1).shape[1:]),
        "first": float(levels[0].norm),
        "guidance": guidance.scale if isinstance(guidance, ClassifierFree) else 1.0,
        "source": [*_source_size(model), channels] if task is not None else None,
        "nothing": 0 if conditioner is None else conditioner.nothing(1)[0].tolist(),
        "steps": table,
    }


def _ahead(before: Level, t: Level, s: Level) -> float:
    """Half a step ahead in log-SNR, in units of the step before; 0 where it is infinite, as in `DPMpp2M`."""
    past, now, then = (-float(each.nsr.log()) for each in (before, t, s))
    ahead = 0.5 * (then - now) / (now - past)
    return ahead if math.isfinite(ahead) and math.isfinite(then - now) else 0.0


def _slots_of(backbone: Backbone, conditioner: Conditioner | None) -> list[str]:
    """The slots of a `Cond` that a conditioner fills and a network reads."""
    if conditioner is None:
        return []
    filled = conditioner(conditioner.nothing(1))
    read = {"vector": backbone.vector, "tokens": backbone.tokens, "mask": backbone.tokens}
    return [slot for slot, size in read.items() if size and getattr(filled, slot) is not None]


@torch.no_grad()
def _export(
    module: nn.Module,
    inputs: dict[str, Tensor],
    outputs: tuple[str, ...],
    file: Path,
    sides: tuple[tuple[int, ...], list[Sizes]],
) -> Sizes:
    """Write a module; returns which sizes it takes, the first that works of those to try.

    Args:
        module: A module of tensors.
        inputs: Examples of its inputs, of a batch of 2, by name.
        outputs: Names of its outputs.
        file: The file.
        sides: Axes that are height and width of each input with four axes, and sizes to try for them, None: fixed.
    """
    axes, tried = sides
    batch = torch.export.Dim("batch", min=1, max=MOST)
    for sizes in tried:
        dynamic: list[dict[int, Any]] = [{0: batch} for _ in inputs]
        if sizes is not None:
            free = [sizes[0] * torch.export.Dim(f"side{axis}", min=1, max=sizes[1]) for axis in axes]
            for each, value in zip(dynamic, inputs.values(), strict=True):
                each |= dict(zip(axes, free, strict=True)) if value.ndim == 4 else {}
        try:
            with _quiet():
                program = torch.export.export(
                    module.eval(), tuple(inputs.values()), dynamic_shapes={"inputs": tuple(dynamic)}, strict=False
                )
                exported = torch.onnx.export(
                    program, input_names=list(inputs), output_names=list(outputs), dynamo=True, verbose=False
                )
            assert exported is not None
            exported.save(str(file), external_data=False)
            return sizes
        except Exception as error:  # torch raises of many classes for what it cannot export
            failure = error
    raise ValueError(
        f"{file.name} of this model cannot be exported ({reason_of(failure, 300)}). Export it with `to=diffusers`, "
        "which copies its code."
    ) from failure


@contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's notes about its own exporter."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
