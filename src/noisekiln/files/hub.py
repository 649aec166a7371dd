"""Models on the Hugging Face Hub, by names such as "hf:user/name": downloaded once, then read from its cache."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisekiln.errors import NoisekilnError, reason_of
from noisekiln.files.packages import check_packages

PREFIX = "hf:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*(@[\w./-]+)?")
PATTERNS = (
    "model/**",
    "model.json",
    "*.safetensors",
    "stage*/**",
    "README.md",
    "evaluation.json",
)  # of a run or a model
SECONDS = 10  # to wait for an answer of the Hub


class HubUnreachable(NoisekilnError, ValueError):
    """The Hub, or what is asked of it, cannot be reached."""


def is_hub_name(name: object) -> bool:
    """Whether a model is named as one of the Hub: "hf:user/name", also as a path."""
    return isinstance(name, str | Path) and str(name).startswith(PREFIX)


def download(name: str, *, offline: bool = False) -> Path:
    """The folder of a model of the Hub, downloaded once; "hf:user/name", or "hf:user/name@revision".

    Args:
        name: Its name.
        offline: Whether only what was downloaded before may be used.

    Raises:
        HubUnreachable: If the Hub cannot be reached and the model was not downloaded before, or there is none.
        ValueError: If the name is none, or huggingface_hub is not installed.
    """
    repository, _, revision = checked_hub_name(name.removeprefix(PREFIX)).partition("@")
    hub = import_hub()
    with explaining_the_hub(
        repository, "Download its files on a computer that reaches it, and give the folder instead."
    ):
        return Path(
            hub.snapshot_download(
                repository,
                revision=revision or None,
                allow_patterns=list(PATTERNS),
                etag_timeout=SECONDS,
                local_files_only=offline,
            )
        )


def checked_hub_name(name: str) -> str:
    """The name; raises ValueError if it is none of a model on the Hub."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a model on the Hub. Give user/name, such as anna/portraits.")
    return name


def import_hub() -> Any:
    """The package huggingface_hub; raises ValueError if it is not installed."""
    check_packages("The Hub", "hub", "huggingface_hub")
    import huggingface_hub

    return huggingface_hub


@contextmanager
def explaining_the_hub(repository: str, remedy: str) -> Iterator[None]:
    """Errors of the Hub as one of noisekiln."""
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        yield
    except RepositoryNotFoundError as error:
        raise HubUnreachable(
            f"The Hub has no model {repository}, or you may not see it. Check the name; for a private one, log in "
            "(`hf auth login`)."
        ) from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise HubUnreachable(
            f"{repository}: the Hugging Face Hub cannot be reached, or refused ({reason_of(error)}). {remedy}"
        ) from error
