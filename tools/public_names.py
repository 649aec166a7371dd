"""Write the lists that type checkers read: the public names of noisekiln, and the settings of `nk.train` by name.

``python tools/public_names.py`` writes both; a test says when one of them is out of date. Nothing is decided here: a
component is public because its file exists, and a setting because `Settings` has the field.
"""

import ast
from pathlib import Path

from noisekiln.components.registry import names, rooms

SOURCE = Path(__file__).parents[1] / "src" / "noisekiln"
NAMES, SETTINGS = SOURCE / "public.py", SOURCE / "plan" / "settings_by_name.py"
WHOLE = (
    "api",
    "levels",
    "estimate",
    "predictions",
    "conditions",
    "denoisers",
    "textbook",
)  # classes, functions, constants
CLASSES = (
    *("errors", "posterior", "images", "data/dataset", "plan/settings"),
    *("model/model", "model/diffusion", "model/cascade", "model/sampling"),
    *("training/trainer", "runs/run", "runs/events", "monitor/intervals", "monitor/measure"),
)
BY = "Written by `python tools/public_names.py`, from the files themselves."


def main() -> None:
    """Write both files."""
    NAMES.write_text(public_names(), encoding="utf-8")
    SETTINGS.write_text(settings_by_name(), encoding="utf-8")


def public_names() -> str:
    """The module that imports every public name."""
    of_rooms = [f"{room}/{name}" for room in rooms() for name in ("base", *names(room))]
    found: dict[str, str] = {}
    for module in dict.fromkeys((*WHOLE, *CLASSES, *of_rooms)):
        for name in defined(SOURCE / f"{module}.py", classes_only=module not in WHOLE):
            found.setdefault(name, module.replace("/", "."))
    order = sorted(
        found, key=lambda name: (found[name], not (name.isupper() and len(name) > 1), name[0].islower(), name)
    )
    lines = [f"from noisekiln.{found[name]} import {name} as {name}\n" for name in order]
    return f'"""Every public name, for ``import noisekiln as nk``: nk.DDIM, nk.Level, ...\n\n{BY}\n"""\n\n' + "".join(
        lines
    )


def defined(file: Path, *, classes_only: bool) -> list[str]:
    """The public names that a module defines: its `__all__` if it has one; else classes, functions and constants."""
    found: list[str] = []
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) or (isinstance(node, ast.FunctionDef) and not classes_only):
            found.append(node.name)
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and not classes_only:
            if node.targets[0].id == "__all__":
                return list(ast.literal_eval(node.value))
            found.append(node.targets[0].id)
    return [name for name in dict.fromkeys(found) if not name.startswith("_")]


def settings_by_name() -> str:
    """The module with a TypedDict of the fields of `Settings`."""
    text = (SOURCE / "plan" / "settings.py").read_text(encoding="utf-8")
    (kind,) = (node for node in ast.parse(text).body if isinstance(node, ast.ClassDef) and node.name == "Settings")
    fields = [node for node in kind.body if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)]
    lines = [
        f"    {field.target.id}: {widened(field)}\n"
        for field in fields
        if isinstance(field.target, ast.Name) and field.target.id != "data"
    ]
    return (
        f'"""Settings of a run as keyword arguments, for type checkers.\n\n{BY}\n"""\n\n'
        "from pathlib import Path\nfrom typing import TypedDict\n\n\n"
        "class SettingsByName(TypedDict, total=False):\n"
        '    """The fields of `Settings`, each of which may be left out."""\n\n' + "".join(lines)
    )


def widened(field: ast.AnnAssign) -> str:
    """The type of a field; that of a folder may also be a Path."""
    folder = isinstance(field.value, ast.Call) and any(word.arg == "folder" for word in field.value.keywords)
    return ast.unparse(field.annotation).replace("str", "str | Path") if folder else ast.unparse(field.annotation)


if __name__ == "__main__":
    main()
