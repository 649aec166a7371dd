"""The folder of a saved model: its `model.json`, and its weights with their digest."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from noisekiln.files.atomic import atomic_write
from noisekiln.files.hub import download, is_hub_name
from noisekiln.files.json_file import read_json, write_json
from noisekiln.files.plain_file import check_plain
from noisekiln.paths import expand_home

FORMAT = 1
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl", ".pickle")


def write_description(description: dict[str, Any], folder: Path) -> None:
    """Write `model.json`; a process that reads it at the same time never sees half a file."""
    write_json(folder / "model.json", {"format": FORMAT, **description})


def model_folder(folder: Path, *, offline: bool = False) -> Path:
    """The folder with `model.json`: this one, or `model/` in it; "hf:user/name" is downloaded, unless `offline`."""
    folder = download(str(folder), offline=offline) if is_hub_name(folder) else expand_home(folder)
    refuse_pickle(folder)
    for place in (folder, folder / "model"):
        if (place / "model.json").is_file():
            return place
    if not folder.exists():
        raise ValueError(f"There is no folder {str(folder)!r}. Give the folder of a run, such as runs/demo.")
    if folder.is_file():
        raise ValueError(
            f"{str(folder)!r} is a file, and a model is a folder: weights and their description. "
            "Give the folder of a run, such as runs/demo."
        )
    raise ValueError(
        f"{str(folder)!r} is not a run: it holds no model/model.json. "
        "Give a folder that `noisekiln train` has written; the first model is there after its first grid."
    )


def refuse_pickle(file: Path) -> None:
    """Raise ValueError for a file of pickled weights: reading one runs any code in it."""
    if file.suffix.lower() in PICKLES and not file.is_dir():
        raise ValueError(
            f"{str(file)!r} is a pickle, and opening one runs any code that is in it; noisekiln reads none. "
            "Give the folder of a run. If you trust the file and have its network: load it in Python with "
            "torch.load(..., weights_only=True), and give the network to noisekiln.denoiser."
        )


def read_description(file: Path) -> dict[str, Any]:
    """A `model.json`; raises ValueError if noisekiln did not write it."""
    try:
        description = read_json(file)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{file} cannot be read ({error}). The model is damaged. Restore it from a backup, or download it again."
        ) from error
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ValueError(f"{file} is not a model of format {FORMAT}. It may come from a later noisekiln: update it.")
    return description


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of names and bytes, in hexadecimal digits: the same for the same tensors, in any order."""
    found = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return found.hexdigest()


def write_weights(tensors: Mapping[str, Tensor], file: Path) -> None:
    """Write tensors with their digest; a process that reads the file at the same time never sees half of it."""
    contiguous = {name: tensor.contiguous() for name, tensor in tensors.items()}
    with atomic_write(file) as draft:
        save_file(contiguous, draft, metadata={"sha256": digest(contiguous)})


def read_weights(file: Path) -> dict[str, Tensor]:
    """The tensors that `write_weights` wrote.

    Raises:
        ValueError: If they do not have the digest that the file holds; files of earlier versions hold none.
    """
    check_plain(file)  # reading a pipe might never end
    with safe_open(file, framework="pt") as opened:
        written = (opened.metadata() or {}).get("sha256")
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no dict)
    if written is not None and digest(tensors) != written:
        raise ValueError("its weights are not what was written, by their SHA-256")
    return tensors


def read_model_description(folder: str | Path) -> dict[str, Any]:
    """The `model.json` of a run or a model; nothing is built, and no code is run.

    Raises:
        ValueError: If there is no model there, or it is damaged, or of a later version.
    """
    return read_description(model_folder(Path(folder)) / "model.json")
