"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisekiln.adapter import merge as merge
    from noisekiln.adapter import unmerge as unmerge
    from noisekiln.diffusion import Diffusion as Diffusion
    from noisekiln.facade import alike as alike
    from noisekiln.facade import ema as ema
    from noisekiln.facade import load as load
    from noisekiln.facade import train as train
    from noisekiln.recipes.cascade import cascade as cascade
    from noisekiln.uses.edit import edit as edit
    from noisekiln.uses.inpaint import inpaint as inpaint
    from noisekiln.uses.interpolate import interpolate as interpolate
    from noisekiln.uses.outpaint import outpaint as outpaint
    from noisekiln.uses.restore import restore as restore
    from noisekiln.uses.style import style as style
    from noisekiln.uses.upscale import upscale as upscale
    from noisekiln.uses.variations import variations as variations

__version__ = "0.1.0"
_USES = ("edit", "inpaint", "interpolate", "outpaint", "restore", "style", "upscale", "variations")
_PUBLIC = {
    "train": "noisekiln.facade",
    "load": "noisekiln.facade",
    "ema": "noisekiln.facade",
    "alike": "noisekiln.facade",
    "cascade": "noisekiln.recipes.cascade",
    "Diffusion": "noisekiln.diffusion",
    "merge": "noisekiln.adapter",
    "unmerge": "noisekiln.adapter",
    **{use: f"noisekiln.uses.{use}" for use in _USES},
}
__all__ = ["Diffusion", "alike", "cascade", "edit", "ema", "inpaint", "interpolate", "load", "merge", "outpaint"]
__all__ += ["restore", "style", "train", "unmerge", "upscale", "variations"]


def __getattr__(name: str) -> Any:
    """Import on first use: `noisekiln --help` must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'noisekiln' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
