"""Pipelines from the Hugging Face Hub: downloaded once, then read from the cache."""

import importlib
from pathlib import Path
from typing import Any

from noisekiln.errors import class_and_reason
from noisekiln.paths import expand_home
from noisekiln.pretrained.libraries import check_installed, diffusers

SECONDS = 5.0  # until the hub is said to be out of reach
LEFT_OUT = ("safety_checker", "feature_extractor", "image_encoder")  # components that are not used


def find_pipeline(name_or_folder: str | Path, *, offline: bool = False, half: bool = False) -> Path:
    """The folder of a pipeline, which is downloaded if a name on the hub is given.

    Args:
        name_or_folder: A folder, or OWNER/NAME, with an @REVISION behind it if wanted.
        offline: Whether only what was downloaded before may be used.
        half: Whether weights in 16 bits are preferred, where a repository has both.

    Raises:
        ValueError: If there is no such folder and no such repository, or the hub cannot be reached.
    """
    text = str(name_or_folder)
    if expand_home(text).exists() or not _may_be_on_the_hub(text):
        return expand_home(text)
    name, _, revision = text.partition("@")
    if offline:
        return _in_cache(name, revision or None, f"`offline`: {name} was not downloaded before")
    check_installed()
    hub: Any = importlib.import_module("huggingface_hub")
    try:
        found = hub.HfApi().model_info(name, revision=revision or None, timeout=SECONDS)
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        raise ValueError(
            f"There is no folder {name!r}, and the hub has no repository {text!r} that you may read. Check the "
            "spelling; one that is gated has a licence to accept on its page, then log in: `hf auth login`."
        ) from error
    except Exception as error:  # of whichever library the hub's client uses for the network
        return _in_cache(name, revision or None, f"the hub cannot be reached ({class_and_reason(error)})")
    files = [sibling.rfilename for sibling in found.siblings or ()]
    return _download_pipeline(name, revision or None, "fp16" if half and _has_half(files) else None)


def _download_pipeline(name: str, revision: str | None, variant: str | None) -> Path:
    """The folder in the cache, after what it lacks was downloaded, with bars of the hub's own."""
    options: dict[str, Any] = {**dict.fromkeys(LEFT_OUT), "use_safetensors": True}
    try:
        return Path(diffusers().DiffusionPipeline.download(name, revision=revision, variant=variant, **options))
    except Exception as error:  # of whichever library the hub's client uses for the network
        raise ValueError(
            f"{name} cannot be downloaded ({class_and_reason(error)}). The same command continues where it stopped; "
            "if the repository has no weights in safetensors, choose another."
        ) from error


def _in_cache(name: str, revision: str | None, why: str) -> Path:
    """The folder in the cache, without the network."""
    hub: Any = importlib.import_module("huggingface_hub")
    try:
        return Path(hub.snapshot_download(name, revision=revision, local_files_only=True))
    except Exception as error:
        raise ValueError(
            f"There is no folder {name!r}, and {why}. Without a network: on a computer that has one, run "
            f"`huggingface_hub.snapshot_download({name!r}, local_dir='sd')` in Python, copy that folder, and give it."
        ) from error


def _has_half(files: list[str]) -> bool:
    return any(file.startswith("unet/") and file.endswith(".fp16.safetensors") for file in files)


def _may_be_on_the_hub(text: str) -> bool:
    """Whether a name has the form OWNER/NAME; paths that begin with a dot or a slash, or have more parts, have not."""
    parts = text.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)
