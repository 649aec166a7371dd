"""Write docs/api.md, the reference of the public names, from their docstrings.

``python tools/api_reference.py`` writes it; a test says when it is out of date. Signatures have no types, as the
docstrings say what arguments are; mypy and editors read the types themselves.
"""

import importlib
import inspect
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import noisekiln as nk
from noisekiln import public

PAGE = Path(__file__).parents[1] / "docs" / "api.md"
HEAD = """# Reference of the API

*Every public name of `import noisekiln as nk`, from its docstring. [In Python](python.md) shows how they are used.*

Written by `python tools/api_reference.py`.
"""
SECTIONS = ("Args", "Attributes", "Returns", "Raises", "Yields", "Arguments in addition to those of every model")


def main() -> None:
    """Write the page."""
    PAGE.write_text(api_reference(), encoding="utf-8")


def api_reference() -> str:
    """The page: a section for each room, in the order of its first name in the list of public names."""
    rooms: dict[str, list[str]] = {}
    for line in inspect.getsource(public).splitlines():
        if found := re.match(r"from noisekiln\.([\w.]+) import (\w+) as", line):
            rooms.setdefault(found[1].partition(".")[0], []).append(found[2])
    return HEAD + "".join(section(room, names) for room, names in rooms.items())


def section(room: str, names: list[str]) -> str:
    """A room or a module: what it is, and its names."""
    about = summary(importlib.import_module(f"noisekiln.{room}"))
    return f"\n## {room}\n\n{about}\n" + "".join(entry(name, getattr(nk, name)) for name in names)


def entry(name: str, value: Any) -> str:
    """One public name."""
    if not (inspect.isclass(value) or inspect.isfunction(value)):
        return f"\n### nk.{name}\n\nA constant: a `{type(value).__name__}`.\n"
    text = f"\n### nk.{name}\n\n`{name}{signature(value)}`\n\n{markdown(inspect.getdoc(value) or '')}\n"
    own = (
        [(each, method) for each, method in vars(value).items() if is_documented(each, method)]
        if inspect.isclass(value)
        else []
    )
    return (
        text
        + ("\n" if own else "")
        + "".join(f"* `.{each}{signature(method)}`: {summary(method)}\n" for each, method in own)
    )


def is_documented(name: str, method: Any) -> bool:
    """Whether this is a public method or property with a docstring of its own."""
    inner = getattr(method, "__func__", method)
    known = inspect.isfunction(inner) or isinstance(inner, property)
    return known and not name.startswith("_") and bool(inner.__doc__)


def signature(value: Any) -> str:
    """Names and defaults of the arguments, as a call; nothing for a property."""
    inner = getattr(value, "__func__", value)
    if isinstance(inner, property):
        return ""
    try:
        found = inspect.signature(inner)
    except (TypeError, ValueError):  # a protocol, or an exception
        return ""
    each = [
        one.replace(annotation=one.empty, default=default(one))
        for one in found.parameters.values()
        if one.name not in ("self", "cls")
    ]
    return str(found.replace(parameters=each, return_annotation=found.empty))


def default(argument: inspect.Parameter) -> Any:
    """The default of an argument; ``...`` for an object without a text of its own."""
    return Unnamed() if " at 0x" in repr(argument.default) else argument.default


class Unnamed:
    """A default that is shown as ``...``."""

    def __repr__(self) -> str:
        """Three dots."""
        return "..."


def summary(value: ModuleType | Any) -> str:
    """The first paragraph of a docstring, as one line."""
    return plain(" ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split()))


def markdown(docstring: str) -> str:
    """A docstring of Google's style as Markdown: sections in bold, arguments as lists."""
    lines: list[str] = []
    inside = False
    for line in plain(docstring).splitlines():
        heading = line.removesuffix(":")
        if line.endswith(":") and heading in SECTIONS:
            lines, inside = [*lines, f"**{heading}**", ""], True
        elif inside and re.match(r"    \S", line):
            head, colon, rest = line.strip().partition(": ")
            lines.append(f"* `{head}`: {rest}" if colon and re.fullmatch(r"[\w.*]+", head) else f"* {line.strip()}")
        elif inside and line.startswith("     "):
            lines.append(f"  {line.strip()}")
        else:
            lines, inside = [*lines, line], inside and not line
    return "\n".join(lines)


def plain(text: str) -> str:
    """Code in single backticks, as Markdown has it."""
    return text.replace("``", "`")


if __name__ == "__main__":
    main()
