"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisekiln.api import *  # noqa: F403 (what it exports is listed in its __all__)

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the API on first use: `noisekiln --help` must not wait for torch."""
    if not name.startswith("_"):
        api = importlib.import_module("noisekiln.api")
        if name in api.__all__:
            return getattr(api, name)
    raise AttributeError(f"module 'noisekiln' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The names of the API."""
    return sorted([*globals(), *importlib.import_module("noisekiln.api").__all__])
