"""A module's source as definitions and imports by name, and the names that a piece of code uses."""

import ast
import builtins
import importlib
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

PACKAGE = "noisekiln"
OWN_FILE = "from_file_"  # how modules of users' own files are called


class Name(NamedTuple):
    """A definition at the top of a module."""

    module: str
    name: str


class Import(NamedTuple):
    """What an import statement binds: a module, or (with `attribute`) something of it."""

    module: str
    attribute: str
    bound: str

    def statement(self) -> str:
        """The statement that binds it."""
        if not self.attribute:
            return f"import {self.module}" + ("" if self.bound == self.module else f" as {self.bound}")
        renamed = "" if self.bound == self.attribute else f" as {self.bound}"
        return f"from {self.module} import {self.attribute}{renamed}"


@dataclass
class ModuleSource:
    """A parsed module: its definitions and imports, by the names that they bind."""

    definitions: dict[str, ast.stmt] = field(default_factory=dict)
    imports: dict[str, Import] = field(default_factory=dict)


def check_installed(module: str, found: Import) -> None:
    """Raise ValueError if a user's file imports another one of theirs."""
    own, other = (getattr(sys.modules.get(each), "__file__", None) for each in (module, found.module))
    if module.startswith(OWN_FILE) and own and other and Path(own).parent == Path(other).parent:
        raise ValueError(
            f"{own} imports {found.module} from beside it, and an exported model has one file of code. "
            f"Move what it uses of {found.module} into {Path(own).name}."
        )


def is_followed(module: str) -> bool:
    """Whether a module's source is copied, and not imported: one of noisekiln, or a user's own file."""
    return module == PACKAGE or module.startswith((f"{PACKAGE}.", OWN_FILE))


def resolve(name: Name) -> Name | Import | None:
    """Where a name in a module comes from; None for a name of Python."""
    source = source_of(name.module)
    if name.name in source.definitions:
        return name
    found = source.imports.get(name.name)
    if found is None:
        assert name.name in dir(builtins) or name.name.startswith("__"), f"{name} is bound nowhere"
        return None
    if not is_followed(found.module):
        return found
    assert found.attribute, f"{name} is a module of noisekiln, whose source cannot be copied by name"
    return resolve(Name(found.module, found.attribute))


@cache
def source_of(module: str) -> ModuleSource:
    """The parsed source of a module, by its full name."""
    loaded: ModuleType = importlib.import_module(module)
    source = ModuleSource()
    for node in ast.parse(inspect.getsource(loaded)).body:
        if isinstance(node, ast.Import):
            for alias in node.names:
                bound = alias.asname or alias.name
                source.imports[bound.partition(".")[0]] = Import(alias.name, "", bound)
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                bound = alias.asname or alias.name
                source.imports[bound] = Import(node.module or "", alias.name, bound)
        else:
            source.definitions |= dict.fromkeys(_names_bound_by(node), node)
            source.imports |= {each.bound: each for each in _inner_imports(node)}
    return source


def _inner_imports(node: ast.AST) -> Iterator[Import]:
    """What functions import from noisekiln when they run."""
    for each in ast.walk(node):
        if isinstance(each, ast.ImportFrom) and is_followed(each.module or ""):
            yield from (Import(each.module or "", alias.name, alias.asname or alias.name) for alias in each.names)


def _names_bound_by(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    if isinstance(node, ast.Assign | ast.AnnAssign):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        return [each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)]
    return []


def without_annotations(part: ast.AST) -> ast.AST:
    """A copy of a piece of code without its annotations, which are not evaluated."""
    bare = ast.parse(ast.unparse(part))
    for node in ast.walk(bare):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return bare


def free_names(node: ast.AST) -> set[str]:
    """Names that are read and bound nowhere in this tree."""
    read = {each.id for each in ast.walk(node) if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Load)}
    return read - bound_names(node)


def bound_names(node: ast.AST) -> set[str]:
    """Names that parameters, assignments and nested functions in a tree bind."""
    inside = list(ast.walk(node))
    bound = {each.id for each in inside if isinstance(each, ast.Name) and isinstance(each.ctx, ast.Store)}
    bound |= {each.arg for each in inside if isinstance(each, ast.arg)}
    bound |= {each.name for each in inside if isinstance(each, ast.FunctionDef)}
    for each in inside:
        if isinstance(each, ast.Import) or (isinstance(each, ast.ImportFrom) and not is_followed(each.module or "")):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in each.names}
    return bound | {each.name for each in inside if isinstance(each, ast.ExceptHandler) and each.name}
