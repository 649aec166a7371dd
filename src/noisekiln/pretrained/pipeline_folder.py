"""The folder of a pipeline of diffusers: what it holds, and whether it can be loaded."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from noisekiln.errors import listed
from noisekiln.files.json_file import read_json
from noisekiln.paths import expand_home

INDEX = "model_index.json"
PICKLES = (".bin", ".ckpt", ".pt", ".pth")
REASONS = {  # what a component's presence says of a pipeline that cannot be loaded
    "transformer": "its network is a transformer (as in DiT, PixArt, Stable Diffusion 3 and Flux), not a U-Net",
    "prior": "it is made of several models in sequence (as in Kandinsky and Cascade)",
    "controlnet": "its U-Net is steered by a ControlNet, which noisekiln has no input for",
    "image_encoder": "its U-Net is conditioned on an image, which noisekiln has no input for",
    "vqvae": "its autoencoder is quantised (as in the first latent diffusion)",
}
LOADED = "Stable Diffusion 1.x, 2.x and XL: a UNet2DConditionModel with an AutoencoderKL and CLIP"


@dataclass(frozen=True)
class PipelineFolder:
    """A folder of a pipeline that can be loaded.

    Attributes:
        path: The folder.
        index: Its `model_index.json`.
    """

    path: Path
    index: dict[str, Any]

    @classmethod
    def open(cls, folder: str | Path) -> "PipelineFolder":
        """The folder, if it holds a Stable Diffusion with weights in safetensors.

        Raises:
            ValueError: If it is no pipeline, or of another kind, lacks a component, or has pickled weights only.
        """
        path = expand_home(folder)
        _check_holds_pipeline(path)
        index = _read_config(path / INDEX)
        made = cls(path, index)
        for component, reason in REASONS.items():
            if _has_part(index, component):
                raise ValueError(
                    f"{path} is a {index.get('_class_name')}: {reason}. Load {LOADED}; for this one, use diffusers."
                )
        _check_parts(path, index)
        for component in made.components:
            if not (path / component).is_dir():
                raise ValueError(
                    f"{path} lacks the folder {component!r}, a part of every such pipeline (it has: "
                    f"{listed(sorted(each.name for each in path.iterdir()), 12)}). Download the whole repository again."
                )
        for component in ("unet", "vae", *made.text_encoders):
            made.variant(component)
        return made

    @property
    def text_encoders(self) -> list[str]:
        """Names of the text encoders, in order."""
        return [name for name in ("text_encoder", "text_encoder_2") if _has_part(self.index, name)]

    @property
    def tokenizers(self) -> list[str]:
        """Names of their tokenizers."""
        return [name.replace("text_encoder", "tokenizer") for name in self.text_encoders]

    @property
    def components(self) -> list[str]:
        """Folders of everything that is loaded."""
        return ["unet", "vae", "scheduler", *self.text_encoders, *self.tokenizers]

    def config(self, component: str) -> dict[str, Any]:
        """The config of a component."""
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        return _read_config(self.path / component / name)

    def variant(self, component: str) -> str | None:
        """The variant of a component's weights, "fp16" if there are no others; None for plain ones.

        Raises:
            ValueError: If there are no weights in safetensors.
        """
        return variant_of(self.path / component)


def variant_of(folder: Path) -> str | None:
    """The variant of the weights in the folder of a component; see `PipelineFolder.variant`."""
    names = [file.name for file in folder.iterdir()]
    weights = [name for name in names if name.endswith(".safetensors")]
    if any(".fp16" not in name and ".non_ema" not in name for name in weights):
        return None
    if any(".fp16" in name for name in weights):
        return "fp16"
    pickles = [name for name in names if Path(name).suffix in PICKLES]
    if pickles:
        raise ValueError(
            f"{folder} has its weights as a pickle ({listed(pickles, 2)}), and opening one runs any code that is in "
            "it; noisekiln reads none. Download the files that end in .safetensors. If there are none and you "
            "trust these, DiffusionPipeline.from_pretrained(FOLDER).save_pretrained(OTHER) writes them."
        )
    raise ValueError(f"{folder} has no weights (*.safetensors). Download the whole repository again.")


def is_pipeline(folder: str | Path) -> bool:
    """Whether a folder is that of a pipeline of diffusers, of any kind."""
    return (expand_home(folder) / INDEX).is_file()


def _check_holds_pipeline(path: Path) -> None:
    if path.suffix.lower() in (*PICKLES, ".safetensors") and not path.is_dir():
        raise ValueError(
            f"{path} is a single file, and a pipeline is a folder with a part for each component. Convert it with "
            "diffusers: StableDiffusionPipeline.from_single_file(FILE).save_pretrained(FOLDER)"
            + (", if you trust this file: a pickle runs any code in it." if path.suffix != ".safetensors" else ".")
        )
    if not path.is_dir():
        raise ValueError(f"There is no folder {str(path)!r}. Give that of a pipeline, or a name such as OWNER/NAME.")
    if not (path / INDEX).is_file():
        is_ours = any((place / "model.json").is_file() for place in (path, path / "model"))
        remedy = "It holds a model of noisekiln: use `noisekiln sample`, or noisekiln.load" if is_ours else ""
        raise ValueError(
            f"{path} is not a pipeline of diffusers: it holds no {INDEX}. "
            f"{remedy or 'Give a folder that save_pretrained of diffusers has written, or that was downloaded whole'}."
        )


def _check_parts(path: Path, index: dict[str, Any]) -> None:
    for component in ("unet", "vae", "text_encoder", "scheduler"):
        if not _has_part(index, component):
            raise ValueError(
                f"{path} is a {index.get('_class_name')}, whose {INDEX} has no {component!r}. Load {LOADED}."
            )
    kind = index["unet"][1]
    if kind != "UNet2DConditionModel":
        raise ValueError(f"{path}: its network is a {kind}. Load {LOADED}.")


def _has_part(index: dict[str, Any], component: str) -> bool:
    """Whether an index names a component; [null, null] stands for one that is left out."""
    entry = index.get(component)
    return isinstance(entry, list) and len(entry) == 2 and entry[1] is not None


def _read_config(file: Path) -> dict[str, Any]:
    try:
        content = read_json(file)
    except (OSError, ValueError) as error:
        raise ValueError(f"{file} cannot be read ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} is not a description of diffusers. Download it again.")
    return content
