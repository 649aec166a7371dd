"""A trained model as a folder that `DiffusionPipeline.from_pretrained` opens where noisekiln is not installed.

Our networks have no counterpart in diffusers, so the folder holds their source: `model/noisekiln_....py` is cut from
the source of noisekiln (`source_extract`), and built with the model's own settings. Unlike a traced program, it runs on
every device, in every precision and size, can be read and changed, and its weights are plain safetensors. Unlike a
second implementation, it cannot differ from what was trained.
"""

import hashlib
from pathlib import Path

from noisekiln.files.json_file import write_json
from noisekiln.files.model_folder import write_weights
from noisekiln.interop.model_code import model_code
from noisekiln.model.diffusion import Diffusion

PIPELINE = Path(__file__).with_name("diffusers_pipeline.py")
MODEL = "NoisekilnModel"
HEADER = """from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config"""
TESTED = "0.42.0"  # of diffusers


def write_diffusers_folder(model: Diffusion, out: Path) -> list[str]:
    """Write the files of a pipeline into an empty folder; diffusers is not needed for it.

    Args:
        model: The model.
        out: The folder.

    Returns:
        Notes for the model card: none.

    Raises:
        ValueError: If a part of the model is an object of Python that no text describes.
    """
    code = model_code(model, MODEL, bases=", ModelMixin, ConfigMixin", header=HEADER, decorator="@register_to_config")
    # diffusers copies code into one folder for all models: each needs a name of its own.
    name = f"noisekiln_{hashlib.sha256(code.encode()).hexdigest()[:8]}"
    place = out / "model"
    place.mkdir()
    (place / f"{name}.py").write_text(code, encoding="utf-8")
    (out / "pipeline.py").write_text(PIPELINE.read_text(encoding="utf-8"), encoding="utf-8")
    write_json(place / "config.json", {"_class_name": MODEL, "_diffusers_version": TESTED})
    write_weights(model.state_dict(), place / "diffusion_pytorch_model.safetensors")
    index = {"_class_name": ["pipeline", "NoisekilnPipeline"], "_diffusers_version": TESTED, "model": [name, MODEL]}
    write_json(out / "model_index.json", index)
    return []
