"""Python files of a user's own components, copied into the folder of a model, so that it can be moved."""

import ast
import importlib.util
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from noisekiln.components.consent import Consent, is_same_file
from noisekiln.components.own_imports import INSTALLED, importing_from
from noisekiln.components.spec import describe, is_read_back, parse_spec, python_file
from noisekiln.components.spec_paths import copy_named
from noisekiln.files.atomic import atomic_write

CODE = "code"  # folder in a model's folder


def spec_to_save(component: object | None) -> str | None:
    """The spec of a part of a model, with all settings; None for no part.

    Raises:
        ValueError: If a component could not be built again from it.
    """
    if component is None:
        return None
    kind = type(component)
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    own = not kind.__module__.startswith("noisekiln.")
    if own and (file is None or not _defines(Path(file), kind)):
        raise ValueError(
            f"{kind.__qualname__} is not at the top of a Python file, so a saved model could not be loaded again. "
            f"Write the class to a file, and name it: FILE.py:{kind.__name__}."
        )
    if not own and ".interop." in kind.__module__:
        raise ValueError(
            "The network of this model is an object of Python, which could not be built again from a folder. "
            "Save its weights by torch.save(net.state_dict(), FILE), and call noisekiln.denoiser with it again."
        )
    spec = describe(component, include_defaults=True)
    if not is_read_back(spec, component):
        raise ValueError(
            f"{kind.__name__} has a setting that could not be read back from text: {spec[-200:]}. "
            "Give it numbers, texts, tuples of them, or components."
        )
    return spec


def copy_code(specs: Mapping[str, Any], folder: Path) -> dict[str, str]:
    """Copy the Python files that specs name, and those that these import from beside them, into the model's folder.

    Returns:
        The copy of each file that a spec names, relative to the folder.
    """
    copies: dict[str, str] = {}
    written: dict[Path, Path] = {}  # copy -> file
    for file in dict.fromkeys(filter(None, map(python_file, specs.values()))):
        files = {file.name: file, **_imported_files(file, {})}
        place, number = folder / CODE, 1
        while not all(is_same_file(written.get(place / name, each), each) for name, each in files.items()):
            number += 1  # a folder of its own, as another component's file has this name
            place = folder / CODE / str(number)
        for name, each in files.items():
            _copy(each, place / name)
            written[place / name] = each
        copies[str(file)] = (place / file.name).relative_to(folder).as_posix()
    return copies


@contextmanager
def located(description: Mapping[str, Any], place: Path, consent: Consent) -> Iterator[dict[str, Any]]:
    """A `model.json` whose specs name the copies of Python files, where the files themselves are not there.

    Of a model that was pushed, specs name the copies, relative to its folder, and never other files of that name.

    Args:
        description: Content of `model.json`.
        place: The model's folder.
        consent: Python files that may run.

    Raises:
        CodeNotAllowed: If a copy must not run, or a file that it imports.
    """
    copies = description.get(CODE)
    found = dict(description)
    for name, spec in description.items():
        file = python_file(spec)
        if file is None or not isinstance(copies, Mapping) or (file.is_absolute() and file.is_file()):
            continue
        written = parse_spec(spec)[0].rpartition(":")[0]  # not `str(file)`, which on Windows has other slashes
        copy = copy_named(written, copies) or copy_named(str(file), copies)
        if isinstance(copy, str) and _is_copy(place / copy, place / CODE):
            found[name] = spec.replace(written, str(place / copy), 1)
    if found == description:
        yield found
        return
    for file in sorted(filter(Path.is_file, (place / CODE).rglob("*"))):  # Python also imports compiled files
        consent.check(file)
    compiles, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        with importing_from(place / CODE):
            yield found
    finally:
        sys.dont_write_bytecode = compiles


def _is_copy(file: Path, folder: Path) -> bool:
    """Whether a file that a `model.json` names is in the folder of the copies, and nowhere else."""
    return file.is_file() and file.resolve().is_relative_to(folder.resolve())


def _copy(file: Path, copy: Path) -> None:
    if copy.is_file() and is_same_file(copy, file):
        return
    copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(copy) as draft:
        draft.write_bytes(file.read_bytes())


def _defines(file: Path, kind: type) -> bool:
    """Whether a Python file has this class at its top level."""
    try:
        body = ast.parse(file.read_bytes()).body
    except (OSError, SyntaxError, ValueError):
        return False
    return any(isinstance(node, ast.ClassDef) and node.name == kind.__qualname__ for node in body)


def _imported_files(file: Path, found: dict[str, Path]) -> dict[str, Path]:
    """Python files that one imports and that are not installed: name of the copy -> file."""
    for name in _imports(file):
        origin = _origin(name, file.parent)
        if origin is None or any(origin.is_relative_to(place) for place in INSTALLED):
            continue
        package = origin.parent if origin.name == "__init__.py" else None
        files = (
            {f"{name}.py": origin}
            if package is None
            else {str(each.relative_to(package.parent)): each for each in sorted(package.rglob("*.py"))}
        )
        new = {key: each for key, each in files.items() if key not in found}
        found |= new
        for each in new.values():
            _imported_files(each, found)
    return found


def _imports(file: Path) -> list[str]:
    """First parts of the names of all modules that a file imports."""
    try:
        nodes = list(ast.walk(ast.parse(file.read_bytes())))
    except (SyntaxError, ValueError):
        return []
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module or "" for node in nodes if isinstance(node, ast.ImportFrom) and node.level == 0]
    return list(dict.fromkeys(name.partition(".")[0] for name in names if name))


def _origin(name: str, beside: Path) -> Path | None:
    """The file of a module: beside the file that imports it, or anywhere that Python finds it."""
    for place in (beside / f"{name}.py", beside / name / "__init__.py"):
        if place.is_file():
            return place.resolve()
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin and spec.origin.endswith(".py") else None
