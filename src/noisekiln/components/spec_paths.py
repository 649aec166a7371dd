"""Paths in a spec, of a Python file and of folders: replaced where others see it, who do not have them."""

import ast
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import NamedTuple

from noisekiln.components.spec import parse_spec

NO_FILES: Mapping[str, str] = {}


class WithoutFolders(NamedTuple):
    """A spec without the folders of this computer.

    Attributes:
        spec: The spec.
        files: What stands for its Python file, by the path of it.
        folders: What stands for each setting that was an absolute path, by the path.
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
    paths = {word: node.value for word, node in settings.items() if isinstance(node, ast.Constant)}
    folders = {path: f"./{_last_part(path)}" for path in paths.values() if isinstance(path, str) and _last_part(path)}
    if not folders and all(old == new for old, new in files.items()):
        return WithoutFolders(spec, {}, {})
    texts = {
        word: repr(folders[path]) if (path := paths.get(word)) in folders else ast.unparse(node)
        for word, node in settings.items()
    }
    written = ", ".join(f"{word}={text}" for word, text in texts.items())
    named = f"{files[file]}:{kind}" if colon else name
    replaced = {old: new for old, new in files.items() if old != new}
    return WithoutFolders(f"{named}({written})" if written else named, replaced, folders)


def copy_named(file: str, copies: Mapping[str, str]) -> str | None:
    """The copy of a Python file; where the model was saved or pushed on Windows, slashes may differ.

    Args:
        file: Its path, as it stands in a spec.
        copies: Copy of a Python file, by its path.
    """
    wanted = PureWindowsPath(file).as_posix()
    return next((copy for path, copy in copies.items() if PureWindowsPath(path).as_posix() == wanted), None)


def _last_part(path: str) -> str:
    """The last part of an absolute path; "" for any other text."""
    if path.startswith("~") or PurePosixPath(path).is_absolute():
        return PurePosixPath(path).name
    return PureWindowsPath(path).name if PureWindowsPath(path).is_absolute() else ""
