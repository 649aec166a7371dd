"""Models that are named by a folder or as on the Hugging Face Hub: downloaded once, then read from its cache."""

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisekiln.errors import NoisekilnError, class_and_reason
from noisekiln.files.packages import check_packages
from noisekiln.paths import expand_home

PREFIX = "hf:"
PART, REVISION = r"[A-Za-z0-9][\w.-]*", r"(@[\w./-]+)?"
NAME = re.compile(f"{PART}/{PART}{REVISION}")
KNOWN_NAME = re.compile(f"{PART}(/{PART})?{REVISION}")  # some models of old have no owner
PATTERNS = (
    "model/**",
    "model.json",
    "*.safetensors",
    "stage*/**",
    "README.md",
    "evaluation.json",
)  # of a run or a model
SECONDS = 5.0  # to wait for an answer of the Hub
MISTAKES = (TypeError, AttributeError, NameError)  # of a program, which a network does not make
WITHOUT_NETWORK = (
    "Without a network, download it on another computer by "
    "`huggingface_hub.snapshot_download({repository!r}, local_dir='FOLDER')`, and give that folder."
)

Choose = Callable[[Sequence[str]], Sequence[str]]
"""From the names of all files of a repository to those that are needed."""

IsWhole = Callable[[Path], bool]
"""Whether a folder has all files without which a model cannot be read."""


class HubUnreachable(NoisekilnError, ValueError):
    """The Hub, or what is asked of it, cannot be reached."""


def is_hub_name(name: object) -> bool:
    """Whether a model is named as one of the Hub: "hf:user/name", also as a path."""
    return isinstance(name, str | Path) and str(name).startswith(PREFIX)


def download(name: str, *, offline: bool = False) -> Path:
    """The folder of a model of noisekiln on the Hub: "hf:user/name", or "hf:user/name@revision".

    Raises:
        ValueError: If the name is none, and as for `local_folder`.
    """
    checked_hub_name(name.removeprefix(PREFIX))
    return local_folder(name, "model", PATTERNS, offline=offline)


def local_folder(
    model: str | Path,
    kind: str,
    files: Sequence[str] | Choose,
    *,
    offline: bool = False,
    is_whole: IsWhole | None = None,
) -> Path:
    """The folder of a model: the folder itself, or that of a repository on the Hub, downloaded into its cache.

    What was downloaded before is also found if the Hub cannot be reached, or does not give it any more.

    Args:
        model: A folder; or OWNER/NAME or OWNER/NAME@REVISION on the Hub, which may have "hf:" before it.
        kind: Kind of the model in messages, such as "text encoder".
        files: Patterns of the files that are needed, or a function that chooses them.
        offline: Whether only what was downloaded before may be used.
        is_whole: Checks what was downloaded before: where it is whole, the Hub is not asked. Its client alone knows
            what is missing only if it has listed the repository, and not where files came one by one.

    Raises:
        HubUnreachable: If there is no such repository, it is gated, or the Hub cannot be reached within seconds.
        ValueError: If there is no such folder and it cannot be a name, or huggingface_hub is not installed.
    """
    text = str(model)
    if not is_hub_name(text) and expand_home(text).exists():
        return expand_home(text)
    _check_known_name(text, kind)
    repository, _, revision = text.removeprefix(PREFIX).partition("@")
    hub, subject = import_hub(), f"The {kind} {text!r} is neither a folder nor among the downloaded models"
    elsewhere = WITHOUT_NETWORK.format(repository=repository)
    before = _downloaded(repository, revision, () if is_whole is None or callable(files) else files)
    if before is not None and (offline or (is_whole is not None and is_whole(before))):
        return before
    if offline:
        raise HubUnreachable(f"{subject}, and `offline` does not ask the Hub. {elsewhere}")
    try:
        with explaining_the_hub(repository, f"Correct the name. {elsewhere}", subject):
            found = hub.HfApi().model_info(repository, revision=revision or None, timeout=SECONDS)
    except HubUnreachable:
        before = _downloaded(repository, revision)
        if before is not None:
            return before
        raise
    patterns = files([each.rfilename for each in found.siblings or ()]) if callable(files) else files
    with explaining_the_hub(repository, f"The same command goes on where it stopped. {elsewhere}"):
        return Path(hub.snapshot_download(repository, revision=revision or None, allow_patterns=list(patterns)))


def checked_hub_name(name: str) -> str:
    """The name; raises ValueError if it is none of a model on the Hub."""
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise ValueError(f"{name!r} is no name of a model on the Hub. Give user/name, such as anna/portraits.")
    return name


def _check_known_name(text: str, kind: str) -> None:
    if not KNOWN_NAME.fullmatch(text.removeprefix(PREFIX)):
        raise ValueError(
            f"The {kind} {text!r}: there is no such folder. Give the folder of a {kind}, or a name on the Hub."
        )


def import_hub() -> Any:
    """The package huggingface_hub; raises ValueError if it is not installed."""
    check_packages("The Hub", "hub", "huggingface_hub")
    import huggingface_hub

    return huggingface_hub


@contextmanager
def explaining_the_hub(repository: str, remedy: str, subject: str = "") -> Iterator[None]:
    """Errors of the Hub as one of noisekiln; mistakes of a program stay what they are.

    Args:
        repository: Name of the repository.
        remedy: What to do if the Hub cannot be reached.
        subject: Beginning of the message; by default the name.
    """
    try:
        yield
    except MISTAKES:
        raise
    except Exception as error:  # of whichever library the Hub's client uses for the network
        raise _hub_error(error, subject or repository, repository, remedy) from error


def _hub_error(error: Exception, subject: str, repository: str, remedy: str) -> HubUnreachable:
    """What the Hub's client has raised, as an error that says what to do."""
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    if isinstance(error, RepositoryNotFoundError | RevisionNotFoundError):  # also of gated ones
        return HubUnreachable(
            f"{subject}: the Hub has none of this name and revision that you may read. Check the spelling; for a gated "
            f"or private one, accept its licence on https://huggingface.co/{repository}, and log in (`hf auth login`)."
        )
    return HubUnreachable(f"{subject}: the Hub cannot be reached, or refuses ({class_and_reason(error)}). {remedy}")


def _downloaded(repository: str, revision: str, files: Sequence[str] = ()) -> Path | None:
    """The folder in the cache, if it was downloaded before with all of some files; the Hub is not asked."""
    try:
        folder = import_hub().snapshot_download(
            repository, revision=revision or None, allow_patterns=list(files), local_files_only=True
        )
    except (OSError, ValueError):
        return None
    return Path(folder)
