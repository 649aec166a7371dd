"""Paths in a spec, of a Python file and of folders: replaced where others see it, who do not have them."""

import ast
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple, cast

from noisekiln.components.spec import parse_spec

OF_DATA = {("class_label", "names"), ("text", "words")}  # settings whose texts are words of the data, and no paths
NO_FILES: Mapping[str, str] = {}


class WithoutFolders(NamedTuple):
    """A spec without the folders of this computer.

    Attributes:
        spec: The spec.
        files: What stands for its Python file, by the path of it.
        folders: What stands for each absolute path in a setting, by the path.
    """

    spec: str
    files: dict[str, str]
    folders: dict[str, str]


def without_folders(spec: str, copies: Mapping[str, str] = NO_FILES) -> WithoutFolders:
    """A spec whose Python file is named by its copy, else by its name, and whose folders by ``./NAME``.

    Args:
        spec: The spec; other text is returned as it is.
        copies: Copy of a Python file, by its path in specs.
    """
    try:
        name, settings = parse_spec(spec)
    except ValueError:
        return WithoutFolders(spec, {}, {})
    file, colon, kind = name.rpartition(":")
    files = {file: copy_named(file, copies) or PureWindowsPath(file).name} if colon else {}
    replacing = _Replacing()
    texts = {word: ast.unparse(replacing.setting(name, word, node)) for word, node in settings.items()}
    folders = replacing.folders
    if not folders and all(old == new for old, new in files.items()):
        return WithoutFolders(spec, {}, {})
    written = ", ".join(f"{word}={text}" for word, text in texts.items())
    named = f"{files[file]}:{kind}" if colon else name
    replaced = {old: new for old, new in files.items() if old != new}
    return WithoutFolders(f"{named}({written})" if written else named, replaced, folders)


class _Replacing(ast.NodeTransformer):
    """Puts a name in place of each absolute path, in tuples, lists and nested components too, and notes which."""

    def __init__(self) -> None:
        self.folders: dict[str, str] = {}

    def setting(self, component: str, word: str | None, node: ast.expr) -> ast.expr:
        """The value of a component's setting without paths."""
        return node if (component, word) in OF_DATA else cast(ast.expr, self.visit(node))

    def visit_Call(self, node: ast.Call) -> ast.Call:
        """A nested component without paths."""
        component = ast.unparse(node.func)
        for word in node.keywords:
            word.value = self.setting(component, word.arg, word.value)
        return node

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        """The name that stands for a path; any other literal as it is."""
        path = node.value
        if not isinstance(path, str) or not last_part(path):
            return node
        self.folders[path] = f"./{last_part(path)}"
        return ast.Constant(self.folders[path])


def copy_named(file: str, copies: Mapping[str, str]) -> str | None:
    """The copy of a Python file; where the model was saved or pushed on Windows, slashes may differ.

    Args:
        file: Its path, as it stands in a spec.
        copies: Copy of a Python file, by its path.
    """
    posix = PureWindowsPath(file).as_posix()
    return next((copy for path, copy in copies.items() if PureWindowsPath(path).as_posix() == posix), None)


def last_part(path: str) -> str:
    """The last part of an absolute path; "" for any other text."""
    if path.startswith("~") or PurePosixPath(path).is_absolute():
        return PurePosixPath(path).name
    return PureWindowsPath(path).name if PureWindowsPath(path).is_absolute() else ""
