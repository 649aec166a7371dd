"""Numbers of numpy and torch as those of Python."""

from collections.abc import Callable
from operator import index
from typing import Any, SupportsIndex


def plain(value: Any) -> Any:
    """A number, a text or a list of Python for a scalar or an array of numpy or torch; anything else unchanged."""
    to_list: Callable[[], Any] | None = getattr(value, "tolist", None)  # numpy, torch, pandas and jax call it so
    return to_list() if callable(to_list) and not isinstance(value, type) else value


def all_plain(values: dict[str, Any]) -> dict[str, Any]:
    """The same names, each with its plain value."""
    return {name: plain(value) for name, value in values.items()}


def height_and_width(size: Any) -> tuple[int, int]:
    """A size as (height, width): of one side, or of two.

    Raises:
        ValueError: If it is neither.
    """
    size = plain(size)
    try:
        height, width = map(index, (size, size) if isinstance(size, SupportsIndex) else size)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`size={size!r}` is neither a side in pixels nor a height and a width. Give 64, or (64, 96)."
        ) from error
    return height, width
