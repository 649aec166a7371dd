"""Numbers of numpy and torch as those of Python."""

from collections.abc import Callable
from typing import Any


def plain(value: Any) -> Any:
    """A number, a text or a list of Python for a scalar or an array of numpy or torch; anything else unchanged."""
    to_list: Callable[[], Any] | None = getattr(value, "tolist", None)  # numpy, torch, pandas and jax call it so
    return to_list() if callable(to_list) and not isinstance(value, type) else value


def all_plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same names, each with its plain value."""
    return {name: plain(value) for name, value in values.items()}
