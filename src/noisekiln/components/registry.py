"""Registry of components: a component exists because its file does.

A *room* is a package whose `base` module defines one abstract class, and whose other modules each define one final
subclass of it, named like the file: `samplers/dpmpp_2m.py` holds `DPMpp2M`. Nothing is listed anywhere else.
"""

import ast
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import ClassVar, TypeVar, get_origin

from noisekiln.components.consent import ANY_CODE, Consent
from noisekiln.components.own_imports import importing_from
from noisekiln.components.words import answer
from noisekiln.errors import NoisekilnError, class_and_reason, listed, shorten
from noisekiln.paths import expand_home

PACKAGE = Path(__file__).parents[1]
IMPORTED = "imported"  # folder of a room with components that only an import makes: they are no choices
T = TypeVar("T")
Version = tuple[int, int]  # time of the last change in ns, and size in bytes
_modules: dict[Path, tuple[Version, ModuleType]] = {}  # Python files that have run
_running: set[Path] = set()  # those that run at this moment
_from_files: dict[Path, dict[str, tuple[str, str]]] = {}  # file -> class -> room and spec, of components of one's own


class RunsItself(NoisekilnError, ValueError):
    """A file starts, while it runs, what needs its components."""


@cache
def names(room: str) -> tuple[str, ...]:
    """Names of the components in a room ("samplers"), sorted; nothing is imported."""
    modules = pkgutil.iter_modules([str(PACKAGE / room)])
    return tuple(sorted(module.name for module in modules if module.name != "base" and not module.ispkg))


@cache
def rooms() -> tuple[str, ...]:
    """The rooms: packages with a `base`, sorted."""
    return tuple(sorted(base.parent.name for base in PACKAGE.glob("*/base.py")))


def summary(room: str, name: str = "__init__") -> str:
    """The first line of a component's file, or of a room's, without importing it."""
    text = (PACKAGE / room / f"{name}.py").read_text(encoding="utf-8")
    return (ast.get_docstring(ast.parse(text)) or "").split("\n")[0]


def room_of(base: type) -> str:
    """The room whose abstract class this is: "samplers" for `Sampler`."""
    return base.__module__.removeprefix("noisekiln.").rsplit(".", 1)[0]


def name_of(component: type) -> str:
    """A component's name in settings: its file's, or "file.py:Class" for one from outside."""
    if component.__module__.startswith("noisekiln."):
        return component.__module__.rsplit(".", 1)[-1]
    return f"{sys.modules[component.__module__].__file__}:{component.__name__}"


def find(base: type[T], name: str, consent: Consent = ANY_CODE) -> type[T]:
    """The component called `name` in the room of `base`; also "my_file.py:MyClass" for one of your own.

    The first word of a name is enough where no other begins with it: "class" finds `class_label`.

    Args:
        base: Abstract class of the room.
        name: The name.
        consent: Python files that may run; all by default, for a name that the user has written.

    Raises:
        CodeNotAllowed: If it names another Python file.
        ValueError: If there is none; the message suggests the most similar name.
    """
    if ":" in name:
        consent.check(expand_home(name.rpartition(":")[0]))
        return _from_file(base, name, consent)
    room = room_of(base)
    known = names(room)
    if name in names(f"{room}/{IMPORTED}"):
        room = f"{room}.{IMPORTED}"
    elif name not in known:
        longer = [other for other in known if other.startswith(f"{name}_")]
        if len(longer) != 1:
            kind = room.removesuffix("s").replace("_", " ")
            near = did_you_mean(name, known, room.replace("_", " "))
            raise ValueError(f"There is no {kind} called {shorten(repr(name), 100)}. {near}")
        name = longer[0]
    module = importlib.import_module(f"noisekiln.{room}.{name}")
    found = [kind for kind in vars(module).values() if _is_component(kind, base) and kind.__module__ == module.__name__]
    assert len(found) == 1, f"{module.__name__} must define exactly one {base.__name__}, not {found}"
    kind_found: type[T] = found[0]
    return kind_found


def components_of_file(file: Path) -> dict[str, tuple[str, str]]:
    """The components that were found in a user's Python file: class -> room, and its name in the settings."""
    return _from_files.get(file.resolve(), {})


def did_you_mean(name: str, known: tuple[str, ...] | list[str], kind: str = "names") -> str:
    """The end of an error message: "Did you mean 'heun'? Known samplers: ...".

    Args:
        name: The unknown name.
        known: All known names.
        kind: What they name, in the plural.

    Returns:
        What the name is called here, if it is a word of the field; else the most similar name, and all.
    """
    other_name = answer(kind, name)
    if other_name is not None:
        return other_name
    folded = {each.lower(): each for each in known}
    near = [folded[each] for each in get_close_matches(name.lower(), folded, n=1)] if len(name) < 100 else []
    return (f"Did you mean {near[0]!r}? " if near else "") + f"Known {kind}: {listed(known)}."


def _is_component(kind: object, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base) and not inspect.isabstract(kind)


def _from_file(base: type[T], name: str, consent: Consent) -> type[T]:
    written, _, attribute = name.rpartition(":")
    file = str(expand_home(written))
    if not Path(file).is_file():
        raise ValueError(f"{name!r} names a component in the file {file!r}, which does not exist. Give FILE.py:Class.")
    kind: type[T] | None = getattr(_module(file, consent.folder(Path(file))), attribute, None)
    if not isinstance(kind, type) or kind is base or not issubclass(kind, base):
        raise ValueError(f"{file!r} has no {base.__name__} called {attribute!r}. Derive one from {base.__module__}.")
    lacking = _lacking(kind, base)
    if lacking:
        raise ValueError(
            f"{name!r} is no complete {base.__name__}: it lacks {', '.join(lacking)}. "
            f"Define {'it' if len(lacking) == 1 else 'them'} in the class, as {base.__module__} says."
        )
    _from_files.setdefault(Path(file).resolve(), {})[attribute] = room_of(base), name
    return kind


def _lacking(kind: type, base: type) -> list[str]:
    """What a class has to define and does not: abstract methods, and class variables without a default in its base."""
    origins: dict[str, object] = {name: get_origin(hint) for name, hint in inspect.get_annotations(base).items()}
    variables = [name for name, origin in origins.items() if origin is ClassVar and name not in dir(kind)]
    return [*sorted(getattr(kind, "__abstractmethods__", ())), *variables]


def _module(file: str, folder: Path) -> ModuleType:
    """A Python file as a module; it runs again only if the file has changed.

    Args:
        file: The file.
        folder: Where it finds what it imports from beside it, as under `python FILE`.

    Raises:
        ValueError: If it is not a Python file, or raises an error.
    """
    path = Path(file).resolve()
    version = path.stat().st_mtime_ns, path.stat().st_size
    if path in _modules and _modules[path][0] == version:
        return _modules[path][1]
    spec = importlib.util.spec_from_file_location(f"from_file_{path}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file!r} cannot be imported: it is not a Python file. Give FILE.py:Class.")
    if path in _running:
        raise RunsItself(
            f"{file!r} uses its own component while it runs, and noisekiln runs it to find the component. "
            'Put what uses it, such as noisekiln.train, under `if __name__ == "__main__":`.'
        )
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)  # so that its classes find it
    _running.add(path)
    try:
        with importing_from(folder):
            spec.loader.exec_module(module)
    except RunsItself:
        del sys.modules[spec.name]
        raise
    except (Exception, SystemExit) as error:  # a file of the user may raise anything, and call sys.exit
        del sys.modules[spec.name]
        raise ValueError(
            f"{file!r} cannot be imported ({class_and_reason(error)}). "
            f"Correct it: `python {file}` has to run without an error."
        ) from error
    finally:
        _running.remove(path)
    _modules[path] = version, module
    return module
