"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from noisekiln.api import alike as alike
    from noisekiln.api import ema as ema
    from noisekiln.api import load as load
    from noisekiln.api import train as train
    from noisekiln.model.adapter import merge as merge
    from noisekiln.model.adapter import unmerge as unmerge
    from noisekiln.model.diffusion import Diffusion as Diffusion
    from noisekiln.model.join import cascade as cascade
    from noisekiln.uses.editing import edit as edit
    from noisekiln.uses.inpainting import inpaint as inpaint
    from noisekiln.uses.interpolation import interpolate as interpolate
    from noisekiln.uses.outpainting import outpaint as outpaint
    from noisekiln.uses.restoration import restore as restore
    from noisekiln.uses.style_transfer import style as style
    from noisekiln.uses.upscaling import upscale as upscale
    from noisekiln.uses.variation import variations as variations

__version__ = "0.1.0"
_USES = {
    "edit": "editing",
    "inpaint": "inpainting",
    "interpolate": "interpolation",
    "outpaint": "outpainting",
    "restore": "restoration",
    "style": "style_transfer",
    "upscale": "upscaling",
    "variations": "variation",
}
_PUBLIC = {
    "train": "noisekiln.api",
    "load": "noisekiln.api",
    "ema": "noisekiln.api",
    "alike": "noisekiln.api",
    "cascade": "noisekiln.model.join",
    "Diffusion": "noisekiln.model.diffusion",
    "merge": "noisekiln.model.adapter",
    "unmerge": "noisekiln.model.adapter",
    **{use: f"noisekiln.uses.{room}" for use, room in _USES.items()},
}
__all__ = ["Diffusion", "alike", "cascade", "edit", "ema", "inpaint", "interpolate", "load", "merge", "outpaint"]
__all__ += ["restore", "style", "train", "unmerge", "upscale", "variations"]


def __getattr__(name: str) -> Any:
    """Import on first use: `noisekiln --help` must not wait for torch."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'noisekiln' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)
