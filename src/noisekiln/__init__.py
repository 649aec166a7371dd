"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisekiln.adapter import merge as merge
    from noisekiln.adapter import unmerge as unmerge
    from noisekiln.diffusion import Diffusion as Diffusion
    from noisekiln.facade import load as load
    from noisekiln.facade import train as train

__version__ = "0.1.0"
_PUBLIC = {
    "train": "noisekiln.facade",
    "load": "noisekiln.facade",
    "Diffusion": "noisekiln.diffusion",
    "merge": "noisekiln.adapter",
    "unmerge": "noisekiln.adapter",
}
__all__ = ["Diffusion", "load", "merge", "train", "unmerge"]


def __getattr__(name: str) -> Any:
    """Import on first use: `noisekiln --help` must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'noisekiln' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
