"""A trained model as one Python file and its weights, for torch alone.

Not as TorchScript, which torch has retired, and not as a program of `torch.export`, which is tied to the device that it
was traced on: the source runs on every device and can be read.
"""

from pathlib import Path

from noisekiln.files.model_folder import write_weights
from noisekiln.interop.model_code import model_code
from noisekiln.model.diffusion import Diffusion

MODEL = "NoisekilnModel"
HEADER = '''from pathlib import Path

from safetensors.torch import load_file


def load():
    """The model with its weights, which lie beside this file."""
    model = NoisekilnModel()
    model.load_state_dict(load_file(Path(__file__).with_name("model.safetensors")))
    return model.eval()'''


def write_torch_folder(model: Diffusion, out: Path) -> list[str]:
    """Write `model.py` and `model.safetensors` into an empty folder; arguments and errors as for diffusers."""
    (out / "model.py").write_text(model_code(model, MODEL, header=HEADER), encoding="utf-8")
    write_weights(model.state_dict(), out / "model.safetensors")
    return []
