"""Components that are given as settings, as their specs."""

import inspect
import sys
from typing import Any

from noisekiln.components.registry import name_of
from noisekiln.components.spec import describe


def is_component(value: object, room: str | None = None) -> bool:
    """Whether a value is an object of a class of a room, such as "samplers"; of any room by default."""
    bases = [kind.__module__.split(".") for kind in type(value).__mro__ if inspect.isabstract(kind)]
    return any(base[0] == "noisekiln" and base[-1] == "base" and room in (None, base[1]) for base in bases)


def as_spec(setting: str, value: Any) -> Any:
    """A component as its spec, any other value unchanged.

    Raises:
        ValueError: If a spec would not make the same component: it holds weights, or no file has its class.
    """
    check_no_class(setting, value)
    if not is_component(value):
        return value
    kind = type(value)
    state = getattr(value, "state_dict", None)  # of torch, which is not imported here
    if callable(state) and state() and setting == "codec":
        raise ValueError(
            f"`codec`: an object of the class {kind.__name__} was given, which holds weights. Give the folder in which "
            "it was saved, the `out` of noisekiln.train_codec."
        )
    if callable(state) and state():
        raise ValueError(
            f"`{setting}`: a {kind.__name__} object was given, which holds weights, and a run makes its own. "
            f"Give its name, `{setting}={name_of(kind)}`, or its spec as text."
        )
    if "<locals>" in kind.__qualname__ or getattr(sys.modules[kind.__module__], "__file__", None) is None:
        raise ValueError(
            f"`{setting}`: the class {kind.__name__} is in no file, so a run could not find it again. "
            "Write it into a Python file, and give FILE.py:Class as text."
        )
    return describe(value)


def check_no_class(setting: str, value: object) -> None:
    """Raise ValueError for the class of a component, where an object of it is meant."""
    if isinstance(value, type) and any(map(inspect.isabstract, value.__mro__)):
        raise ValueError(
            f"`{setting}`: the class {value.__name__} itself was given. Give an object of it, {value.__name__}(), or "
            "its spec as text."
        )
