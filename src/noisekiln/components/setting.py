"""Settings: fields of frozen dataclasses that carry their help, choices and range."""

import dataclasses
import math
import os
from collections.abc import Sequence
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_type_hints

from noisekiln.components.as_spec import check_no_class, is_component
from noisekiln.components.registry import did_you_mean
from noisekiln.errors import shorten

KINDS: dict[type, tuple[Any, str]] = {
    int: (Integral, "a whole number"),
    float: (Real, "a number"),
    bool: (bool, "True or False"),
    str: ((str, Path), "text"),
    Path: ((str, os.PathLike), "the path of a folder or a file"),
}


@dataclasses.dataclass(frozen=True)
class Rules:
    """Rules of a setting, in addition to its type and default.

    Attributes:
        help: Description, for the command line and the page.
        flag: Names on the command line, separated by spaces; "" for the name of the field.
        group: Heading in the help under which the setting is listed; "" for none.
        choices: All possible values; None if they are not a fixed list.
        above: Exclusive lower bound of a number.
        at_least: Inclusive lower bound.
        below: Exclusive upper bound.
        at_most: Inclusive upper bound.
        may_change: Whether a resumed run may have another value.
        keep_on_resume: Whether a resumed run keeps its earlier value if none is requested.
        folder: Whether it is the folder of a run or a model.
        room: Room of components, such as "samplers", an object of which may be given instead of its spec.
    """

    help: str
    flag: str = ""
    group: str = ""
    choices: Sequence[str] | None = None
    above: float | None = None
    at_least: float | None = None
    below: float | None = None
    at_most: float | None = None
    may_change: bool = False
    keep_on_resume: bool = False
    folder: bool = False
    room: str | None = None

    @property
    def range(self) -> str:
        """The range in words: "a number above 0", "0 or more and below 1"; "a finite number" without bounds."""
        bounds = [
            f"above {self.above}" if self.above is not None else "",
            f"{self.at_least} or more" if self.at_least is not None else "",
            f"below {self.below}" if self.below is not None else "",
            f"at most {self.at_most}" if self.at_most is not None else "",
        ]
        words = " and ".join(filter(None, bounds)) or "a finite number"
        return words if self.at_least is not None or words == "a finite number" else f"a number {words}"

    def allows(self, number: float) -> bool:
        """Whether a number is finite and in the range."""
        return (
            (isinstance(number, int) or math.isfinite(number))  # no float has the value of a huge integer
            and (self.above is None or number > self.above)
            and (self.at_least is None or number >= self.at_least)
            and (self.below is None or number < self.below)
            and (self.at_most is None or number <= self.at_most)
        )


def setting(default: Any, help: str, **rules: Any) -> Any:
    """A field of a dataclass with its `Rules`."""
    return dataclasses.field(default=default, metadata={"rules": Rules(help, **rules)})


def rules_of(kind: type) -> dict[str, Rules]:
    """The rules of a dataclass's settings by name; other fields are left out."""
    return {each.name: each.metadata["rules"] for each in dataclasses.fields(kind) if "rules" in each.metadata}


def check_argument(name: str, value: object, kind: type, remedy: str = "Give one.") -> None:
    """Raise ValueError if the value of a setting or an argument is not of a kind.

    Args:
        name: Name of the setting or the argument.
        value: Its value.
        kind: int, float, bool, str or Path.
        remedy: What to do if the value is something that cannot be shown in a few words.
    """
    expected, words = KINDS[kind]
    if isinstance(value, expected) and isinstance(value, bool) == (kind is bool):
        return
    if isinstance(value, str | int | float | Path | NoneType):  # the repr of another one may be long
        raise ValueError(f"`{name}={shorten(repr(value), 100)}` is not possible: it must be {words}. Give one.")
    raise ValueError(f"`{name}`: a {type(value).__name__} was given, and it must be {words}. {remedy}")


def check(settings: Any) -> None:
    """Check every setting of a dataclass; None, where the type allows it, means "not chosen" and passes.

    Raises:
        ValueError: If a value is of the wrong kind, is no choice, or is out of range.
    """
    hints = get_type_hints(type(settings))
    for name, rules in rules_of(type(settings)).items():
        value = getattr(settings, name)
        if value is None and NoneType in get_args(hints[name]):
            continue
        _check_kind(name, value, hints[name], rules)
        if rules.choices is not None and value not in rules.choices:
            values = did_you_mean(str(value), list(rules.choices), f"values of `{name}`")
            raise ValueError(f"`{name}={value}` is not a choice. {values}")
        if isinstance(value, int | float) and not isinstance(value, bool) and not rules.allows(value):
            shown = f"{value:g}" if isinstance(value, float) or abs(value) < 1e99 else "(of more than 99 digits)"
            raise ValueError(f"`{name}={shown}` is out of range. Give {rules.range}.")


def _check_kind(name: str, value: object, hint: Any, rules: Rules) -> None:
    """Raise ValueError for a value of the wrong type, for example from Python or an edited run.yaml."""
    check_no_class(name, value)
    if rules.room is not None and is_component(value, rules.room):
        return
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    if len(kinds) == 1:
        named = "Give the folder of a run or a model." if rules.folder else "Give its name or its spec as text."
        check_argument(name, value, kinds[0], named if kinds[0] is str else "Give one.")
    elif not any(_is_of(value, kind) for kind in kinds):
        words = " or ".join(KINDS[kind][1] if kind in KINDS else "a pair of whole numbers" for kind in kinds)
        raise ValueError(f"`{name}`: a {type(value).__name__} was given, and it must be {words}. Give one.")


def _is_of(value: object, kind: Any) -> bool:
    """Whether a value is of a kind, or a sequence of the parts of a tuple."""
    if kind in KINDS:
        return isinstance(value, KINDS[kind][0]) and isinstance(value, bool) == (kind is bool)
    parts = get_args(kind)
    return isinstance(value, tuple | list) and len(value) == len(parts) and all(map(_is_of, value, parts))
