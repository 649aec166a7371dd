"""Pipelines from the Hugging Face Hub: downloaded once, then read from the cache."""

from pathlib import Path
from typing import Any

from noisekiln.errors import reason_of
from noisekiln.paths import expand_home
from noisekiln.pretrained.libraries import diffusers, quiet

SECONDS = 10  # until the hub is said to be out of reach
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
    found = _download(name, revision or None, "fp16" if half else None, offline)
    return found if found is not None else _whole(_download(name, revision or None, None, offline), name)


def _download(name: str, revision: str | None, variant: str | None, offline: bool) -> Path | None:
    """The folder of a repository in the cache; None if it has no such variant."""
    library = diffusers()
    import httpx
    import requests
    from huggingface_hub import constants, errors

    options: dict[str, Any] = dict.fromkeys(LEFT_OUT)
    before = constants.HF_HUB_ETAG_TIMEOUT
    constants.HF_HUB_ETAG_TIMEOUT = SECONDS
    try:
        with quiet():
            return Path(
                library.DiffusionPipeline.download(
                    name, revision=revision, variant=variant, use_safetensors=True, local_files_only=offline, **options
                )
            )
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ValueError(
            f"There is no folder {name!r}, and the hub has no repository of this name that you may read "
            f"({reason_of(error)}). Check the spelling and the revision; of one that is gated, accept its licence on "
            "its page, and log in: hf auth login."
        ) from error
    except (OSError, httpx.HTTPError, requests.RequestException, errors.HfHubHTTPError) as error:
        raise ValueError(_out_of_reach(name, error, offline)) from error
    except ValueError as error:
        if variant is not None and "variant" in str(error):
            return None
        raise ValueError(f"{name} cannot be downloaded: {reason_of(error)}. Check its page on the hub.") from error
    finally:
        constants.HF_HUB_ETAG_TIMEOUT = before


def _out_of_reach(name: str, error: Exception, offline: bool) -> str:
    why = "it was not downloaded before" if offline else f"the hub cannot be reached ({reason_of(error)})"
    return (
        f"There is no folder {name!r}, and {why}. Without a network: on a computer that has one, run "
        f"`hf download {name} --local-dir FOLDER`, copy that folder, and give its path."
    )


def _whole(found: Path | None, name: str) -> Path:
    if found is None:
        raise ValueError(f"{name} cannot be downloaded: it has no weights. Check its page on the hub.")
    return found


def _may_be_on_the_hub(text: str) -> bool:
    """Whether a name has the form OWNER/NAME; paths that begin with a dot or a slash, or have more parts, have not."""
    parts = text.split("/")
    return len(parts) == 2 and all(part and not part.startswith((".", "~")) for part in parts)
