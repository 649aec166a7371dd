"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisekiln.api import edit as edit
    from noisekiln.api import fine_tune_on as fine_tune_on
    from noisekiln.api import generate as generate
    from noisekiln.api import inpaint as inpaint
    from noisekiln.api import interpolate as interpolate
    from noisekiln.api import load as load
    from noisekiln.api import measure as measure
    from noisekiln.api import outpaint as outpaint
    from noisekiln.api import post_hoc_ema as post_hoc_ema
    from noisekiln.api import restore as restore
    from noisekiln.api import style as style
    from noisekiln.api import train as train
    from noisekiln.api import upscale as upscale
    from noisekiln.api import variations as variations
    from noisekiln.model.adapter import merge as merge
    from noisekiln.model.adapter import unmerge as unmerge
    from noisekiln.model.diffusion import Diffusion as Diffusion
    from noisekiln.model.join import cascade as cascade

__version__ = "0.1.0"
_USES = ("generate", "edit", "inpaint", "interpolate", "outpaint", "restore", "style", "upscale", "variations")
_PUBLIC = {
    "train": "noisekiln.api",
    "load": "noisekiln.api",
    "post_hoc_ema": "noisekiln.api",
    "fine_tune_on": "noisekiln.api",
    "measure": "noisekiln.api",
    "cascade": "noisekiln.model.join",
    "Diffusion": "noisekiln.model.diffusion",
    "merge": "noisekiln.model.adapter",
    "unmerge": "noisekiln.model.adapter",
    **dict.fromkeys(_USES, "noisekiln.api"),
}
__all__ = [
    "Diffusion",
    "cascade",
    "edit",
    "fine_tune_on",
    "generate",
    "inpaint",
    "interpolate",
    "load",
    "measure",
    "merge",
    "outpaint",
    "post_hoc_ema",
]
__all__ += ["restore", "style", "train", "unmerge", "upscale", "variations"]


def __getattr__(name: str) -> Any:
    """Import on first use: `noisekiln --help` must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'noisekiln' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
