"""Python files of a user's own components, copied into the folder of a model, so that it can be moved."""

import ast
import importlib.util
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from noisekiln.components.consent import Consent
from noisekiln.components.spec import describe, is_read_back, python_file
from noisekiln.files.atomic import atomic_write

CODE = "code"  # folder in a model's folder
INSTALLED = {Path(path).resolve() for path in sysconfig.get_paths().values()} | {Path(__file__).parents[2].resolve()}


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
    for file in dict.fromkeys(filter(None, map(python_file, specs.values()))):
        name, number = file.name, 1
        while f"{CODE}/{name}" in copies.values():
            number += 1
            name = f"{file.stem}_{number}.py"
        copies[str(file)] = f"{CODE}/{name}"
        _copy(file, folder / CODE / name)
        for imported, place in _imported_files(file, {}).items():
            _copy(place, folder / CODE / imported)
    return copies


@contextmanager
def located(description: Mapping[str, Any], place: Path, consent: Consent) -> Iterator[dict[str, Any]]:
    """A `model.json` whose specs name the copies of Python files, where the files themselves are not there.

    Args:
        description: Content of `model.json`.
        place: The model's folder.
        consent: Python files that may run.

    Raises:
        CodeNotAllowed: If a copy must not run, or a file that it imports.
    """
    copies = description.get(CODE)
    found = dict(description)
    used = False
    for name, spec in description.items():
        file = python_file(spec)
        copy = copies.get(str(file)) if isinstance(copies, Mapping) and file is not None else None
        if (
            isinstance(copy, str)
            and file is not None
            and not file.is_file()
            and (place / CODE / Path(copy).name).is_file()
        ):
            found[name] = spec.replace(str(file), str(place / CODE / Path(copy).name), 1)
            used = True
    if not used:
        yield found
        return
    for file in sorted(filter(Path.is_file, (place / CODE).rglob("*"))):  # Python also imports compiled files
        consent.check(file)
    compiles, others = sys.dont_write_bytecode, _namesakes(place / CODE)
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(place / CODE))  # for what the copies import from beside them
    for name in others:
        del sys.modules[name]
    try:
        yield found
    finally:
        sys.modules.update(others)
        sys.path.remove(str(place / CODE))
        sys.dont_write_bytecode = compiles


def _namesakes(folder: Path) -> dict[str, ModuleType]:
    """Imported modules with the name of a copy that come from elsewhere, such as the code of another model."""
    names, kept = {file.stem for file in folder.iterdir()}, (*INSTALLED, folder.resolve())
    found = {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in names}
    files = {name: getattr(module, "__file__", None) for name, module in found.items()}
    return {
        name: found[name]
        for name, file in files.items()
        if file is not None and not any(Path(file).resolve().is_relative_to(place) for place in kept)
    }


def _copy(file: Path, copy: Path) -> None:
    if file.resolve() == copy.resolve() or (copy.is_file() and copy.read_bytes() == file.read_bytes()):
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
