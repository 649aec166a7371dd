"""noisekiln: train diffusion models on your own images, from scratch, and use them.

``import noisekiln as nk; nk.train("photos/", minutes=10); nk.load("runs/photos").sample(16, seed=0)``
"""

import importlib
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from noisekiln.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from noisekiln.public import *  # noqa: F403 (all that it imports)
else:  # a type checker must not believe that any name exists

    def __getattr__(name: str) -> Any:
        """Import the public names on first use: `noisekiln --help` must not wait for torch."""
        if name == "__all__":  # of `from noisekiln import *`
            return _public_names()
        public = vars(importlib.import_module("noisekiln.public")) if not name.startswith("_") else {}
        if name in public:
            return public[name]
        near = get_close_matches(name, _public_names(), n=1) if public else []
        hint = f"Did you mean {near[0]!r}?" if near else "dir(noisekiln) lists its names."
        raise AttributeError(f"noisekiln has nothing called {name!r}. {hint}", name=name)


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*globals(), *_public_names()])


def _public_names() -> list[str]:
    return [name for name in vars(importlib.import_module("noisekiln.public")) if not name.startswith("_")]
