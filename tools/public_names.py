"""Write the lists that type checkers read: the public names of noisekiln, and settings, options and arguments by name.

``python tools/public_names.py`` writes all; a test says when one of them is out of date. Nothing is decided here: a
component is public because its file exists, and a setting because `Settings` has the field.
"""

import ast
import re
from pathlib import Path

from noisekiln.components.registry import names, rooms

SOURCE = Path(__file__).parents[1] / "src" / "noisekiln"
NAMES, SETTINGS = SOURCE / "public.py", SOURCE / "plan" / "settings_by_name.py"
EVALUATION = SOURCE / "evaluation" / "evaluation_by_name.py"
OPTIONS, ARGUMENTS = SOURCE / "uses" / "options_by_name.py", SOURCE / "model" / "arguments_by_name.py"
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
    *("training/report", "training/trainer", "runs/run", "runs/codec_events", "runs/events"),
    *("monitor/intervals", "monitor/measure"),
    *("ema/power", "interop/training_loss"),
    *("evaluation/evaluation_report", "evaluation/score_table", "evaluation/conclusions"),
)
BY = "Written by `python tools/public_names.py`, from the files themselves."


def main() -> None:
    """Write all files."""
    for file, made in WRITTEN.items():
        file.write_text(made(), encoding="utf-8")


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
    lines = {name: line for name, line in field_lines("plan/settings", "Settings").items() if name != "data"}
    kinds = [typed_dict("SettingsByName", "The fields of `Settings`, each of which may be left out.", lines)]
    return module_of("Settings of a run as keyword arguments, for type checkers.", kinds)


def options_by_name() -> str:
    """The module with TypedDicts of the fields of `SampleOptions`."""
    lines = field_lines("uses/request", "SampleOptions") | field_lines("uses/sampling_options", "SamplingOptions")
    one = {name: line for name, line in lines.items() if name != "count"}
    path = {name: line for name, line in one.items() if name != "seed"}
    kinds = [
        typed_dict("OptionsByName", "The fields of `SampleOptions`.", lines),
        typed_dict("SeedByName", "The fields of `SampleOptions` apart from `count`.", one),
        typed_dict("SamplingByName", "The fields of `SampleOptions` apart from `count` and `seed`.", path),
    ]
    return module_of("Options of the uses of a model as keyword arguments, for type checkers.", kinds)


def evaluation_by_name() -> str:
    """The module with a TypedDict of the fields of `EvaluationOptions`."""
    own = field_lines("evaluation/evaluation_options", "EvaluationOptions")
    lines = own | field_lines("uses/sampling_options", "SamplingOptions")
    kinds = [typed_dict("EvaluationByName", "The fields of `EvaluationOptions`.", lines)]
    return module_of("Options of an evaluation as keyword arguments, for type checkers.", kinds)


def arguments_by_name() -> str:
    """The module with a TypedDict of the arguments of `Diffusion.generate` that `sample` passes on."""
    generate = method_of("model/diffusion", "Diffusion", "generate")
    lines = {each.arg: ast.unparse(each.annotation) for each in generate.args.kwonlyargs if each.annotation}
    lines = {name: line for name, line in lines.items() if name not in ("seed", "batch_size")}
    what = "The arguments of `Diffusion.generate` apart from `seed` and `batch_size`."
    return module_of(
        "Arguments of sampling as keyword arguments, for type checkers.", [typed_dict("ArgumentsByName", what, lines)]
    )


def module_of(docstring: str, kinds: list[str]) -> str:
    """A module of TypedDicts, with the imports that their types need."""
    body = "\n\n".join(kinds)
    words = set(re.findall(r"\w+", re.sub(r'""".*?"""', "", body)))
    typing = "from typing import Any, TypedDict" if "Any" in words else "from typing import TypedDict"
    imports = [line for word, line in sorted(IMPORTS.items(), key=lambda item: item[1]) if word in words]
    standard = [line for line in imports if not line.startswith(("from noisekiln", "from torch"))]
    torch = [line for line in imports if line.startswith("from torch")]
    own = [line for line in imports if line.startswith("from noisekiln")]
    groups = ["\n".join(group) for group in (sorted([*standard, typing]), torch, sorted(own)) if group]
    return f'"""{docstring}\n\n{BY}\n"""\n\n' + "\n\n".join(groups) + f"\n\n\n{body}"


def typed_dict(name: str, docstring: str, lines: dict[str, str]) -> str:
    """The source of a TypedDict without required keys."""
    body = "".join(f"    {field}: {kind}\n" for field, kind in lines.items())
    return f'class {name}(TypedDict, total=False):\n    """{docstring}"""\n\n{body}'


def field_lines(module: str, kind: str) -> dict[str, str]:
    """The fields of a dataclass and their types for callers."""
    fields = [each for each in class_of(module, kind).body if isinstance(each, ast.AnnAssign)]
    return {each.target.id: widened(each) for each in fields if isinstance(each.target, ast.Name)}


def class_of(module: str, name: str) -> ast.ClassDef:
    """The tree of a class."""
    body = ast.parse((SOURCE / f"{module}.py").read_text(encoding="utf-8")).body
    (found,) = (node for node in body if isinstance(node, ast.ClassDef) and node.name == name)
    return found


def method_of(module: str, kind: str, name: str) -> ast.FunctionDef:
    """The tree of a method."""
    body = class_of(module, kind).body
    (found,) = (node for node in body if isinstance(node, ast.FunctionDef) and node.name == name)
    return found


def widened(field: ast.AnnAssign) -> str:
    """The type of a field for callers; that of a folder may also be a Path, that of a spec a component."""
    words = {word.arg: word.value for word in field.value.keywords} if isinstance(field.value, ast.Call) else {}
    kind = ast.unparse(field.annotation)
    if "folder" in words:
        return kind.replace("str", "str | Path")
    return kind.replace("str", f"str | {base_of(ast.literal_eval(words['room']))}") if "room" in words else kind


def base_of(room: str) -> str:
    """The name of a room's abstract class."""
    body = ast.parse((SOURCE / room / "base.py").read_text(encoding="utf-8")).body
    kinds = [node for node in body if isinstance(node, ast.ClassDef)]
    return next(kind.name for kind in kinds if "ABC" in map(ast.unparse, kind.bases))


IMPORTS = {
    "Path": "from pathlib import Path",
    "Sequence": "from collections.abc import Sequence",
    "Size": "from noisekiln.codecs.base import Size",
    "Tensor": "from torch import Tensor",
    "WrapDenoiser": "from noisekiln.model.sampling import WrapDenoiser",
    **{base_of(room): f"from noisekiln.{room}.base import {base_of(room)}" for room in rooms()},
}
WRITTEN = {NAMES: public_names, SETTINGS: settings_by_name, OPTIONS: options_by_name, ARGUMENTS: arguments_by_name} | {
    EVALUATION: evaluation_by_name,
}


if __name__ == "__main__":
    main()
