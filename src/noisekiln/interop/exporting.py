"""`nk.export`: a trained model in a format that opens without noisekiln, with its card."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from noisekiln.components.argument_names import answering_unknown_names
from noisekiln.components.registry import did_you_mean
from noisekiln.components.setting import check_argument
from noisekiln.files.atomic import atomic_folder
from noisekiln.files.card_file import CARD
from noisekiln.interop.to_diffusers import write_diffusers_folder
from noisekiln.interop.to_onnx import write_onnx_folder
from noisekiln.interop.to_torch import write_torch_folder
from noisekiln.model.cascade import load
from noisekiln.model.diffusion import Diffusion
from noisekiln.paths import expand_home
from noisekiln.runs.model_card import model_card, newest_grid
from noisekiln.runs.run_summary import ModelFacts, read_summary

Write = Callable[[Diffusion, Path], list[str]]

TARGETS: dict[str, Write] = {
    "diffusers": write_diffusers_folder,
    "onnx": write_onnx_folder,
    "torch": write_torch_folder,
}
USES = {
    "diffusers": """```python
import torch
from diffusers import DiffusionPipeline{opener}

pipe = DiffusionPipeline.from_pretrained("{name}", trust_remote_code=True)
generator = [torch.Generator().manual_seed(i) for i in range(4)]{photo}
images = pipe({condition}{image}num_images_per_prompt=4, generator=generator).images
```

`trust_remote_code` runs `pipeline.py` and the file in `model/`: read them first. noisekiln is not needed.""",
    "onnx": """```bash
pip install onnxruntime numpy pillow
python sample.py {word}{flag}-n 8
```

`sample.py` shows how the files work together. `encoder.onnx` takes images of floats from 0 to 255, (B, H, W, C).""",
    "torch": """```python
import torch
from model import load{opener_of_arrays}

model = load()
generator = torch.Generator().manual_seed(0)
noise = lambda like: torch.randn(like.shape, generator=generator).to(like){array}
images = model.images([{value}] * 4, noise{source})  # (4, H, W, C) uint8
```

Run it in this folder; it needs torch and safetensors.""",
}
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # of Pillow, by the channels of a task's source


@answering_unknown_names("arguments")
def export(
    run: str | Path,
    out: str | Path | None = None,
    *,
    to: str = "diffusers",
    license: str = "",
    allow_code: bool = False,
) -> Path:
    """Write a model as a folder that others open without noisekiln, with a model card.

    Args:
        run: Folder of a run or a model.
        out: Folder to write, which must not exist or be empty; by default one of the name of `to`, in `run`.
        to: "diffusers" (a pipeline), "onnx" (networks, and a sampler for onnxruntime), or "torch" (one Python file).
        license: Licence that the card states, such as "cc-by-4.0".
        allow_code: Whether the model may run components from Python files of its author.

    Returns:
        The folder.

    Raises:
        ValueError: If there is no such format or model, or the model has something that the format cannot express.
    """
    check_argument("run", run, Path)
    if to not in TARGETS:
        raise ValueError(f"`to={to}` is not a format. {did_you_mean(str(to), tuple(TARGETS), 'formats')}")
    folder = expand_home(run)
    place = folder / to if out is None else expand_home(out)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ValueError(
            f"{place} exists and is not empty, so an export would mix with other files. Give another `out`."
        )
    model = load(folder, allow_code=allow_code)
    if not isinstance(model, Diffusion):
        raise ValueError(
            f"{folder} holds a cascade, and an export is of one model. Export its stages: the folders in it."
        )
    summary = read_summary(folder, folder.resolve().name, allow_code=allow_code, model=ModelFacts.of(model))
    place.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(place) as draft:
        notes = TARGETS[to](model, draft)
        _copy_picture(folder, draft)
        use = "\n\n".join(
            [USES[to].format(name=place.name, **_example_condition(model)), *(f"Note: {line}." for line in notes)]
        )
        shown = replace(summary, folder=draft)
        text = model_card(shown, license=license, library=to, use=use, name=summary.name)
        (draft / CARD).write_text(text, encoding="utf-8", errors="backslashreplace")
    return place


def _copy_picture(folder: Path, draft: Path) -> None:
    """The newest grid of samples of a run, for the card."""
    grid = newest_grid(folder)
    if grid is not None:
        (draft / "samples").mkdir()
        shutil.copyfile(grid, draft / "samples" / grid.name)


def _example_condition(model: Diffusion) -> dict[str, str]:
    """A condition, and the image of a model with a task, as the code of the card has them."""
    cond, image = model.conditioner, _example_image(model)
    if cond is None:
        return {"condition": "", "word": "", "value": "None", **image}
    argument = "prompt" if cond.kind == "text" else "class_labels"
    example = cond.example()
    return {"condition": f"{argument}={example!r}, ", "word": f'"{example}" ', "value": repr(example), **image}


def _example_image(model: Diffusion) -> dict[str, str]:
    """How the code of the card opens the image of a model with a task; empty texts for one without."""
    if model.task is None:
        return dict.fromkeys(("opener", "opener_of_arrays", "photo", "array", "image", "source", "flag"), "")
    task = model.task
    mode = MODES.get(task.source_channels(model.codec.image_channels), "RGB")
    height, width = task.source_size(model.size)
    opener = "\nfrom PIL import Image, ImageOps"
    opened = '\nphoto = ImageOps.exif_transpose(Image.open("photo.png")).convert("RGBA")'
    on_white = f'\nphoto = Image.alpha_composite(Image.new("RGBA", photo.size, "white"), photo).convert("{mode}")'
    to_fill = f'\nphoto = photo.convert("{mode}")  # transparent pixels are filled in'
    fitted = f"\nphoto = ImageOps.fit(photo, ({width}, {height}))  # as in training; other sizes can be tried"
    photo = opened + (to_fill if mode.endswith("A") else on_white) + fitted
    repeated = "photo.view(1, *photo.shape[:2], -1).expand(4, -1, -1, -1)"
    return {
        "opener": opener,
        "opener_of_arrays": f"\nfrom numpy import array{opener}",
        "photo": photo,
        "array": f"{photo}\nphoto = torch.tensor(array(photo))\nsource = {repeated}",
        "image": "image=photo, ",
        "source": ", source=source",
        "flag": "-i photo.png ",
    }
