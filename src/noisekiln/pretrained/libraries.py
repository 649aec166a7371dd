"""The libraries that pretrained models come from, imported when one is used."""

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from noisekiln.files.packages import check_packages

LIBRARIES = ("diffusers", "transformers")


def diffusers() -> Any:
    """The package diffusers.

    Raises:
        ValueError: If it, or transformers, is not installed.
    """
    check_installed()
    with quiet():
        import diffusers

        return diffusers


def transformers() -> Any:
    """The package transformers.

    Raises:
        ValueError: If it, or diffusers, is not installed.
    """
    check_installed()
    import transformers

    return transformers


@contextmanager
def quiet() -> Iterator[None]:
    """Both libraries without bars and hints: they are about what these functions decide."""
    logging: Any = importlib.import_module("transformers.utils.logging")
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def check_installed() -> None:
    """Raise ValueError if one of the libraries is not installed; neither is imported, which takes seconds."""
    check_packages("A pretrained Stable Diffusion", "diffusers", *LIBRARIES)
