"""What a user's Python file imports from beside it, also where another folder has a module of the same name."""

import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

INSTALLED = {Path(path).resolve() for path in sysconfig.get_paths().values()} | {Path(__file__).parents[2].resolve()}


@contextmanager
def importing_from(folder: Path) -> Iterator[None]:
    """In this context, modules are looked for in a folder first, as under `python FILE` with a file in it.

    Modules that were imported from other folders, under a name that one in this folder has too, are set aside
    meanwhile. A file keeps what it has imported here.
    """
    others = _namesakes(folder.resolve())
    for name in others:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:  # a file may have set another path
            sys.path.remove(str(folder))
        sys.modules.update(others)


def _namesakes(folder: Path) -> dict[str, ModuleType]:
    """Imported modules, with all below them, that are not installed and have the name of another one in a folder."""
    names = {file.stem for file in folder.glob("*.py")} | {file.parent.name for file in folder.glob("*/*.py")}
    places = {name: _place_of(sys.modules[name]) for name in names & sys.modules.keys() - {"__main__"}}
    others = {
        name
        for name, place in places.items()
        if place is not None and place != folder and not any(place.is_relative_to(each) for each in INSTALLED)
    }
    return {name: module for name, module in list(sys.modules.items()) if name.partition(".")[0] in others}


def _place_of(module: ModuleType) -> Path | None:
    """The folder that a module, or the folder of a package, is in; None for one without a file."""
    paths = [*getattr(module, "__path__", ()), *filter(None, [getattr(module, "__file__", None)])]
    return Path(paths[0]).resolve().parent if paths else None
