"""Pipelines and autoencoders of diffusers in a folder or on the Hub: which of their files are downloaded."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from noisekiln.files.card_file import CARD
from noisekiln.files.hub import local_folder
from noisekiln.pretrained.libraries import check_installed
from noisekiln.pretrained.pipeline_folder import INDEX, PICKLES, is_pipeline

PARTS = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")  # begin the names of folders that are used
AUTOENCODER = "vae"  # folder of the autoencoder of a pipeline
CONFIGS = (".json", ".txt", ".model")
WEIGHTS = ".safetensors"


def find_pipeline(name_or_folder: str | Path, *, offline: bool = False, half: bool = False) -> Path:
    """The folder of a pipeline, which is downloaded if a name on the Hub is given.

    Args:
        name_or_folder: A folder, or OWNER/NAME, or OWNER/NAME@REVISION.
        offline: Whether only what was downloaded before may be used.
        half: Whether weights in 16 bits are preferred, where a repository has both.

    Raises:
        ValueError: If there is no such folder and no such repository, or the Hub cannot be reached.
    """
    check_installed()
    return local_folder(name_or_folder, "pipeline", partial(pipeline_files, half=half), offline=offline)


def pipeline_files(files: Sequence[str], *, half: bool) -> list[str]:
    """The files of a repository that are used: configs, and of each part the weights in one precision.

    Raises:
        ValueError: If the weights of a part are pickles alone.
    """
    parts = {file.split("/")[0] for file in files if file.count("/") == 1 and file.startswith(PARTS)}
    chosen = [file for file in files if file in (INDEX, CARD)]
    return chosen + [file for part in sorted(parts) for file in _part_files(files, f"{part}/", half=half)]


def find_autoencoder(place: str | Path, *, offline: bool = False) -> Path:
    """The folder of an autoencoder, or of that of a pipeline; it is downloaded if a name on the Hub is given.

    Args:
        place: A folder, or "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION".
        offline: Whether only what was downloaded before may be used.

    Raises:
        ValueError: As for `find_pipeline`.
    """
    folder = local_folder(place, "autoencoder", autoencoder_files, offline=offline)
    return folder / AUTOENCODER if is_pipeline(folder) else folder


def autoencoder_files(files: Sequence[str]) -> list[str]:
    """The files of a repository that are used if its autoencoder alone is wanted: its own, or those of a pipeline's.

    Raises:
        ValueError: If there is none, or its weights are pickles alone.
    """
    of_pipeline = INDEX in files
    prefix = f"{AUTOENCODER}/" if of_pipeline else ""
    known = [file for file in files if file.startswith((f"{prefix}config.json", f"{prefix}diffusion_pytorch_model"))]
    chosen = _part_files(known, prefix, half=False)
    if f"{prefix}config.json" not in chosen or not any(file.endswith(WEIGHTS) for file in chosen):
        raise ValueError(
            "This repository holds no autoencoder of diffusers, which is config.json with "
            f"diffusion_pytorch_model{WEIGHTS}, at its top or in {AUTOENCODER}/ of a pipeline. Choose one such as "
            "stabilityai/sd-vae-ft-mse, or a pipeline."
        )
    return chosen + ([INDEX] if of_pipeline else [])


def _part_files(files: Sequence[str], prefix: str, *, half: bool) -> list[str]:
    """Configs and weights, in one precision, of what is directly in a folder "NAME/", or at the top for ""."""
    own = [file for file in files if file.startswith(prefix) and "/" not in file.removeprefix(prefix)]
    weights = [file for file in own if file.endswith(WEIGHTS)]
    halves = [file for file in weights if ".fp16" in file]
    plain = [file for file in weights if ".fp16" not in file and ".non_ema" not in file]
    if not weights and any(file.endswith(PICKLES) for file in own):
        raise ValueError(
            f"The weights in {prefix or 'this repository'} are pickles, and opening one runs any code that is in it; "
            f"noisekiln reads none. Choose a repository whose weights end in {WEIGHTS}."
        )
    return [file for file in own if file.endswith(CONFIGS)] + (halves if halves and (half or not plain) else plain)
