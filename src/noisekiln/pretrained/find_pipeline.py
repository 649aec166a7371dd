"""Pipelines of diffusers in a folder or on the Hugging Face Hub: which of their files are downloaded."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from noisekiln.files.card_file import CARD
from noisekiln.files.hub import local_folder
from noisekiln.pretrained.libraries import check_installed
from noisekiln.pretrained.pipeline_folder import INDEX, PICKLES

PARTS = ("unet", "vae", "scheduler", "text_encoder", "tokenizer")  # begin the names of folders that are used
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
    chosen = [file for file in files if file in (INDEX, CARD)]
    parts = {file.split("/")[0] for file in files if file.count("/") == 1 and file.startswith(PARTS)}
    for part in sorted(parts):
        own = [file for file in files if file.startswith(f"{part}/") and file.count("/") == 1]
        weights = [file for file in own if file.endswith(WEIGHTS)]
        halves = [file for file in weights if ".fp16" in file]
        plain = [file for file in weights if ".fp16" not in file and ".non_ema" not in file]
        if not weights and any(file.endswith(PICKLES) for file in own):
            raise ValueError(
                f"The weights in {part}/ of this pipeline are pickles, and opening one runs any code that is in it; "
                f"noisekiln reads none. Choose a repository whose weights end in {WEIGHTS}."
            )
        chosen += [file for file in own if file.endswith(CONFIGS)]
        chosen += halves if halves and (half or not plain) else plain
    return chosen
