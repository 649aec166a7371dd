"""`nk.import_model`: a pipeline folder of diffusers, or a checkpoint of lucidrains, as a model folder of noisekiln."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from noisekiln.codecs.base import Codec
from noisekiln.codecs.diffusers_autoencoder import DiffusersAutoencoder
from noisekiln.codecs.pixels import Pixels
from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.setting import check_argument
from noisekiln.conditioners.class_label import ClassLabel
from noisekiln.data.sizes import height_and_width
from noisekiln.denoisers import Denoiser
from noisekiln.errors import counted, reason_of
from noisekiln.files.json_file import read_json
from noisekiln.files.model_folder import PICKLES
from noisekiln.interop.import_lucidrains import is_of_lucidrains, read_lucidrains
from noisekiln.model.diffusion import Diffusion
from noisekiln.model.sampling import Sampling
from noisekiln.noise_labels.time import Time
from noisekiln.paths import expand_home
from noisekiln.pretrained.diffusers_network import KINDS, DiffusersNetwork
from noisekiln.pretrained.scheduler_config import prediction_of, table_of
from noisekiln.schedules.base import Schedule
from noisekiln.schedules.cosine import Cosine

NETWORKS = ("unet", "transformer")  # folders of a pipeline that may hold one
DDPM = {"beta_schedule": "linear", "num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02}
WEIGHTS = "diffusion_pytorch_model.safetensors"
SIDE = 64  # pixels of the images on which a codec is measured


class Place(NamedTuple):
    """Where the parts of a pipeline are: its network's folder, and settings of the rest."""

    network: Path
    scheduler: Mapping[str, Any]
    about: Mapping[str, Any]


@answering_unknown_names("arguments")
def import_model(folder: str | Path, out: str | Path, *, size: int | tuple[int, int] | None = None) -> Path:
    """Write a model of another package as one that `noisekiln sample` and all other commands read.

    `DDPMPipeline` and `DDIMPipeline` (a `UNet2DModel`, as google/ddpm-cifar10-32), `DiTPipeline`, or the folder of such
    a network alone, which is read as one of DDPM; or a checkpoint of lucidrains' denoising_diffusion_pytorch
    in a file of safetensors. It samples by 50 steps of DDIM by default; estimates are not clipped at each step, as
    these packages do.

    Args:
        folder: Folder of the pipeline of diffusers, as its `save_pretrained` writes it, or the file.
        out: Folder of the model, which must not exist or be empty.
        size: Height and width of the images of a checkpoint, which does not hold it; one number for squares.

    Returns:
        The folder of the model.

    Raises:
        ValueError: If it is something else, its weights are pickles, or diffusers is not installed.
    """
    check_argument("folder", folder, Path)
    source, target = expand_home(folder), expand_home(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(
            f"{target} exists and is not empty, so a model would mix with other files. Give another `out`."
        )
    if source.suffix == ".safetensors" and source.is_file() and is_of_lucidrains(source):
        if size is None:
            raise ValueError(f"{source} does not hold the size of its images. Give it: `size=64`.")
        model = read_lucidrains(source, height_and_width(size))
        model.save(target, imported={"pipeline": "GaussianDiffusion", "network": "Unet"})
        return target
    if size is not None:
        raise ValueError(f"{source} says itself which size its images have. Omit `size`.")
    place = _find(source)
    config = read_json(place.network / "config.json")
    kind = str(config.get("_class_name"))
    if kind not in KINDS:
        raise ValueError(
            f"{place.network} holds a {kind}, and {' or '.join(KINDS)} can be imported. With its class in Python, "
            "noisekiln.denoiser makes a model of it for as long as the process runs."
        )
    if config.get("num_class_embeds") or config.get("class_embed_type"):
        raise ValueError(
            f"{place.network} is a UNet2DModel with classes, whose number for no class is not recorded. Load it with "
            "diffusers, and give it to noisekiln.denoiser with `classes` and `no_class`."
        )
    model = _model_of(source, place, config, kind == "DiTTransformer2DModel")
    model.save(target, imported={"pipeline": place.about.get("_class_name"), "network": kind})
    return target


def _find(folder: Path) -> Place:
    """The parts of a pipeline; raises ValueError for what is none."""
    _refuse_what_is_no_pipeline(folder)
    if (folder / "config.json").is_file():
        return Place(folder, DDPM, {})
    index = read_json(folder / "model_index.json")
    parts = [name for name in NETWORKS if (folder / name / "config.json").is_file()]
    if not parts or not (folder / "scheduler" / "scheduler_config.json").is_file():
        raise ValueError(
            f"{folder} is a {index.get('_class_name')} without a `unet` or `transformer` and a `scheduler`. Give a "
            "DDPMPipeline, a DDIMPipeline or a DiTPipeline."
        )
    return Place(folder / parts[0], read_json(folder / "scheduler" / "scheduler_config.json"), index)


def _refuse_what_is_no_pipeline(folder: Path) -> None:
    if folder.suffix.lower() in PICKLES and folder.is_file():
        raise ValueError(
            f"{folder} is a pickle, and opening one runs any code that is in it. If you trust it, write its weights "
            "anew: `safetensors.torch.save_file(torch.load(FILE, weights_only=True), NEW)`; a pipeline of diffusers "
            "by `pipe.save_pretrained(NEW, safe_serialization=True)`."
        )
    if folder.suffix == ".safetensors" and folder.is_file():
        raise ValueError(
            f"{folder} holds weights without the settings of their network, from which alone it cannot be built: "
            f"{_number_of_tensors(folder)}. Build the network with the code it was trained with, load the weights, and "
            "give it to noisekiln.denoiser."
        )
    if not folder.exists():
        raise ValueError(
            f"There is no folder {folder}, and names of the Hub are not read here. Download the model, "
            f"`huggingface_hub.snapshot_download({str(folder)!r}, local_dir=FOLDER)`, and give that folder."
        )
    if not any((folder / name).is_file() for name in ("model_index.json", "config.json")):
        raise ValueError(
            f"{folder} is no folder of diffusers: it has neither model_index.json nor config.json. Give a folder that "
            "`save_pretrained` wrote, or a copy of a model of the Hub."
        )


def _number_of_tensors(file: Path) -> str:
    from safetensors import safe_open

    with safe_open(file, framework="pt") as opened:
        return counted(len(list(opened.keys())), "tensor")


def _model_of(source: Path, place: Place, config: Mapping[str, Any], is_dit: bool) -> Diffusion:
    schedule, prediction = _schedule_of(place.scheduler), prediction_of(place.scheduler)
    channels = int(config["in_channels"])
    try:
        backbone = DiffusersNetwork(channels, int(is_dit), json.dumps(config, separators=(",", ":")))
    except (TypeError, IndexError, KeyError, RuntimeError) as error:
        raise ValueError(
            f"{place.network / 'config.json'} describes no network that diffusers can make ({reason_of(error)}). "
            "Download it again."
        ) from error
    backbone.network.load_state_dict(_weights_of(place.network, backbone.network))
    side, codec = height_and_width(config["sample_size"]), _codec_of(source, place, channels)
    factor = SIDE // codec.x_size((SIDE, SIDE))[0]
    steps = place.scheduler.get("num_train_timesteps", 1000)
    label = Time(schedule, scale=float(steps), from_zero=True)
    return Diffusion(
        Denoiser(backbone, prediction, label),
        codec,
        (factor * side[0], factor * side[1]),
        _classes_of(place, config) if is_dit else None,
        Sampling(sampler="ddim", steps=50, guidance=4.0 if is_dit else 1.0, schedule=schedule),
    ).eval()


def _weights_of(folder: Path, network: Any) -> Any:
    if not (folder / WEIGHTS).is_file():
        pickled = [file.name for file in folder.iterdir() if file.suffix in PICKLES]
        found = (
            f"its weights are a pickle ({pickled[0]}), and opening one runs any code in it" if pickled else "it is not"
        )
        raise ValueError(
            f"{folder} should hold {WEIGHTS}: {found} there. If you trust it, load the pipeline with diffusers, and "
            "write it anew: `pipe.save_pretrained(NEW, safe_serialization=True)`."
        )
    try:
        return type(network).from_pretrained(folder, use_safetensors=True).state_dict()
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        raise ValueError(f"The network in {folder} cannot be read ({reason_of(error)}). Download it again.") from error


def _schedule_of(scheduler: Mapping[str, Any]) -> Schedule:
    """The curve of a scheduler's betas; raises ValueError for one that noisekiln does not have."""
    if scheduler.get("beta_schedule") == "squaredcos_cap_v2" and not scheduler.get("trained_betas"):
        return Cosine()
    # Clipping at each step is not done: the docstring of `import_model` says so.
    return table_of({"beta_schedule": "linear", **scheduler, "clip_sample": False})


def _codec_of(source: Path, place: Place, channels: int) -> Codec:
    """The pipeline's autoencoder, whose x is its latents times its scaling factor; pixels of -1 to 1 without one."""
    if not (source / "vae" / "config.json").is_file():
        return Pixels((0.5,) * channels, (0.5,) * channels)
    return DiffusersAutoencoder.from_folder(source / "vae").as_published()


def _classes_of(place: Place, config: Mapping[str, Any]) -> ClassLabel:
    """The classes, whose vector is their number; the number after the last is that of no class."""
    count = int(config["num_embeds_ada_norm"])
    labels = place.about.get("id2label") or {}
    names = tuple(str(labels.get(str(number), number)).split(",")[0] for number in range(count))
    classes = ClassLabel(names if len(set(names)) == count else tuple(map(str, range(count))), width=1)
    classes.vectors.weight.data.copy_(torch.arange(count + 1.0)[:, None])
    return classes
