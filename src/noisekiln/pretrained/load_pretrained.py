"""`nk.load_pretrained`: a Stable Diffusion of diffusers as a model of noisekiln."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from noisekiln.codecs.base import pixels_per_position
from noisekiln.codecs.diffusers_autoencoder import DiffusersAutoencoder
from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.registry import did_you_mean
from noisekiln.components.setting import check_argument
from noisekiln.denoisers import Denoiser
from noisekiln.errors import reason_of
from noisekiln.machine.devices import as_device
from noisekiln.model.diffusion import Diffusion
from noisekiln.noise_labels.time import Time
from noisekiln.pretrained.clip_encoder import ClipEncoder
from noisekiln.pretrained.clip_text import ClipText
from noisekiln.pretrained.diffusers_unet import TEXT_TIME, DiffusersUnet
from noisekiln.pretrained.find_pipeline import find_pipeline
from noisekiln.pretrained.libraries import quiet
from noisekiln.pretrained.pipeline_folder import PipelineFolder
from noisekiln.pretrained.save_memory import save_memory
from noisekiln.pretrained.scheduler_config import prediction_of, sampling_of, table_of

DTYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


@answering_unknown_names("arguments of load_pretrained")
def load_pretrained(
    name_or_folder: str | Path,
    *,
    scheduler: str | None = None,
    device: str = "cpu",
    weights: str = "auto",
    low_memory: bool = False,
    offline: bool = False,
) -> Diffusion:
    """A Stable Diffusion 1.x, 2.x or XL of diffusers as a model: ``load_pretrained("sd").sample("a cat")``.

    Its U-Net is the denoiser, its autoencoder the codec, its CLIP the conditioner, its scheduler the schedule; so all
    samplers, guidance and uses of noisekiln work with it, and `train` fine-tunes it. A seed gives the noise that
    diffusers draws from ``torch.Generator("cpu").manual_seed(seed)``.

    Args:
        name_or_folder: Folder that `save_pretrained` of diffusers has written, or OWNER/NAME on the Hugging Face Hub,
            which is downloaded once; OWNER/NAME@REVISION for one of its revisions.
        scheduler: Sampler and schedule to sample with by default, as the scheduler of diffusers: "ddim", "dpmpp_2m" or
            "euler"; its own if None and it is one of these, else "dpmpp_2m".
        device: Device of the model.
        weights: Precision in which the weights of U-Net and text encoders are held: "fp32", "fp16" or "bf16"; "auto" is
            fp16 on a GPU, else fp32. The autoencoder stays in fp32. To train it, load it in fp32.
        low_memory: Whether to trade speed for memory: the autoencoder works image by image and tile by tile, and the
            text encoders and the autoencoder are on the device only while they are used.
        offline: Whether only what was downloaded before may be used.

    Raises:
        ValueError: If it does not exist, cannot be reached, is of another kind, or lacks a component; if its weights
            are pickles; or if diffusers is not installed.
    """
    check_argument("name_or_folder", name_or_folder, Path)
    place = as_device(device)
    dtype = _weights_dtype(weights, place)
    folder = PipelineFolder.open(find_pipeline(name_or_folder, offline=offline, half=dtype != torch.float32))
    try:
        with quiet():
            model = _assemble(folder, scheduler, dtype)
    except (OSError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        if isinstance(error, torch.OutOfMemoryError):
            raise
        raise ValueError(f"{folder.path} is damaged ({reason_of(error)}). Download it again.") from error
    model.codec.requires_grad_(False)
    if low_memory:
        save_memory(model, place)
    else:
        model.to(place)
    return model.eval()


def pipeline_size(path: str | Path) -> tuple[int, int]:
    """Height and width in pixels of a pipeline's images, from its configs alone.

    Raises:
        ValueError: If it is none that can be loaded.
    """
    folder = PipelineFolder.open(path)
    factor = 2 ** (len(folder.config("vae").get("block_out_channels", [0] * 4)) - 1)
    return _trained_size(folder.config("unet"), (factor, factor))


def _assemble(folder: PipelineFolder, scheduler: str | None, dtype: torch.dtype) -> Diffusion:
    """The model, on the CPU."""
    settings, unet = folder.config("scheduler"), folder.config("unet")
    table = table_of(settings)
    sampling = sampling_of(settings, table, scheduler)
    _check_unet_inputs(unet, folder.path)
    conditioner = _text_conditioner(folder, dtype)
    codec = DiffusersAutoencoder.from_folder(folder.path / "vae", variant=folder.variant("vae")).as_published()
    factor = pixels_per_position(codec)
    how: dict[str, Any] = {"torch_dtype": dtype, "variant": folder.variant("unet")}
    network = DiffusersUnet.from_folder(folder.path / "unet", conditioner.sizes.vector, factor[0], **how)
    if conditioner.sizes.tokens != network.tokens:
        raise ValueError(
            f"{folder.path}: the text encoders make tokens of {conditioner.sizes.tokens} numbers, and the U-Net reads "
            f"{network.tokens}. They are of different pipelines. Download the whole repository again."
        )
    denoiser = Denoiser(network, prediction_of(settings), Time(table, float(table.steps), from_zero=True))
    return Diffusion(denoiser, codec, _trained_size(unet, factor), conditioner, sampling)


def _text_conditioner(folder: PipelineFolder, dtype: torch.dtype) -> ClipText:
    penultimate = len(folder.text_encoders) > 1
    loaded = [
        ClipEncoder.from_folder(
            folder.path / name, folder.path / tokenizer, penultimate, dtype=dtype, variant=folder.variant(name)
        )
        for name, tokenizer in zip(folder.text_encoders, folder.tokenizers, strict=True)
    ]
    encoders, arguments = zip(*loaded, strict=True)
    zeros = penultimate and bool(folder.index.get("force_zeros_for_empty_prompt", True))
    return ClipText.of_encoders(encoders, arguments, penultimate, zeros)


def _check_unet_inputs(unet: dict[str, Any], path: Path) -> None:
    """Raise ValueError for a U-Net with inputs that noisekiln does not fill."""
    reads, makes = unet.get("in_channels"), unet.get("out_channels")
    if reads != makes:
        raise ValueError(
            f"{path}: the U-Net reads {reads} channels and predicts {makes}: it takes an image beside the noise (to "
            "inpaint, upscale or edit). Load a plain Stable Diffusion: noisekiln inpaints with any of them."
        )
    for name in ("class_embed_type", "time_cond_proj_dim", "encoder_hid_dim", "num_class_embeds"):
        if unet.get(name) is not None:
            raise ValueError(f"{path}: the U-Net has {name}={unet[name]}, an input that noisekiln does not fill.")
    if unet.get("addition_embed_type") not in (None, TEXT_TIME):
        raise ValueError(f"{path}: the U-Net has addition_embed_type={unet['addition_embed_type']}, not {TEXT_TIME}.")


def _trained_size(unet: dict[str, Any], factor: tuple[int, int]) -> tuple[int, int]:
    """Height and width of the images that a U-Net was trained on."""
    sides = unet.get("sample_size") or 64
    height, width = sides if isinstance(sides, list | tuple) else (sides, sides)
    return int(height) * factor[0], int(width) * factor[1]


def _weights_dtype(weights: str, device: torch.device) -> torch.dtype:
    if weights == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    if weights not in DTYPES:
        known = did_you_mean(str(weights), ["auto", *DTYPES], "values")
        raise ValueError(f"Weights cannot be held in the precision {weights!r}. {known}")
    return DTYPES[weights]
